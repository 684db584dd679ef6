"""Size and speed of a backbone, against the bounds of a study."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from facerec.config.schema import Config
from facerec.errors import ConfigError
from facerec.models.build import build_backbone
from facerec.models.device import resolve_device
from facerec.models.measure import measure
from facerec.tuning.metric import MODEL_METRICS
from facerec.tuning.plan import StudyPlan
from facerec.tuning.schema import ConstraintsConfig

__all__ = ["bounds_of", "broken_bounds", "check_baseline", "model_facts"]

_LATENCY_RUNS = 15


def model_facts(config: Config, *, with_latency: bool) -> dict[str, float]:
    """Parameters, multiply-accumulates and, where asked for, the latency of a configuration's backbone."""
    with torch.device("meta"):
        size = measure(build_backbone(config.model, image_hw=config.image_hw), image_hw=config.image_hw)
    facts = {"parameters": float(size.params), "macs": float(size.macs)}
    if with_latency:
        facts["latency_ms"] = _latency_ms(config)
    return facts


def bounds_of(constraints: ConstraintsConfig) -> dict[str, float]:
    """The bounds that are set, by the name of the fact."""
    return {name: bound for name in MODEL_METRICS if (bound := getattr(constraints, name)) is not None}


def broken_bounds(facts: Mapping[str, float], constraints: ConstraintsConfig) -> list[str]:
    """A clause for each bound that the facts exceed; facts that are not known exceed none."""
    bounds = bounds_of(constraints)
    return [
        f"{name} {facts[name]:g} is above {bound:g}"
        for name, bound in bounds.items()
        if name in facts and facts[name] > bound
    ]


def check_baseline(plan: StudyPlan, facts: Mapping[str, float], *, tell: Callable[[str], None]) -> None:
    """Refuse a baseline that the bounds exclude where a confirmation would compare with it; elsewhere say so.

    Raises:
        ConfigError: the confirmation would have nothing to compare with.
    """
    broken = "; ".join(broken_bounds(facts, plan.study.constraints))
    if not broken:
        return
    if plan.study.confirm.top_k and not plan.study.is_multi_objective:
        raise ConfigError(
            f"constraints: the baseline itself is past a bound ({broken}), so nothing could be compared with it; raise "
            "the bound, begin with a smaller baseline, or give the comparison up with confirm.top_k: 0"
        )
    tell(f"the baseline itself is past a bound and will not be trained: {broken}")


def _latency_ms(config: Config) -> float:
    device = resolve_device(config.device)
    backbone = build_backbone(config.model, image_hw=config.image_hw).to(device).eval()
    image_BCHW = torch.zeros(1, 3, *config.image_hw, device=device)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(_LATENCY_RUNS + 3):
            started = time.perf_counter()
            backbone(image_BCHW)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])
