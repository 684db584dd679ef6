"""From the evaluations of a training to the value of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facerec.config.monitor import EPOCH_LOSS, natural_mode
from facerec.config.schema import Config
from facerec.errors import ConfigError
from facerec.evaluation.names import MEAN, metric_key, resolve_monitor
from facerec.training.history import Evaluation
from facerec.tuning.schema import ObjectiveConfig

__all__ = ["MODEL_METRICS", "Objective", "build_objective", "pair_set_names"]

MODEL_METRICS = ("parameters", "macs", "latency_ms")
"""What is known of a backbone without training it."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One objective, resolved."""

    label: str
    """The metric as people name it."""
    direction: Literal["maximize", "minimize"]
    value: Literal["best", "last"]
    key: str
    """The metric in evaluations and in MLflow, ``eval/mean/…`` over several sets; empty for a fact of the model."""
    report_key: str = ""
    """The same on the reporting pairs."""
    model_metric: str = ""
    """One of `MODEL_METRICS`, or empty."""

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.direction == "maximize" else -1.0

    def of(self, evaluation: Evaluation, *, report: bool = False) -> float | None:
        """The metric of one evaluation; None where it was not measured then."""
        return evaluation.metrics.get(self.report_key if report else self.key)

    def choose(self, evaluations: Sequence[Evaluation], *, min_delta: float = 0.0) -> Evaluation | None:
        """The evaluation that a training counts by; the untrained network does not compete.

        ``min_delta`` is `training.min_delta`: what does not improve by more does not become the best checkpoint either.
        """
        measured = [(value, one) for one in evaluations if one.epoch > 0 and (value := self.of(one)) is not None]
        finite = [(value, one) for value, one in measured if math.isfinite(value)]
        if not finite:
            return None
        if self.value == "last":
            return finite[-1][1]
        highest, chosen = finite[0]
        for value, one in finite[1:]:
            if self.sign * (value - highest) > min_delta:
                highest, chosen = value, one
        return chosen


def pair_set_names(config: Config) -> list[str]:
    """The names of the pair sets in metrics, without reading the files."""
    files = config.bin_files
    if len(files) == 1 and config.eval.dataset:
        return [config.eval.dataset]
    return [Path(name).stem for name in files]


def build_objective(settings: ObjectiveConfig, *, tuning_sets: Sequence[str], report_sets: Sequence[str]) -> Objective:
    """Resolve the metric's name.

    Raises:
        ConfigError: no evaluation logs such a metric, or the direction is not the one in which it is better.
    """
    name = settings.metric
    if name in MODEL_METRICS:
        full, report_key, label = "", "", name
    else:
        try:
            full = resolve_monitor(name, tuning_sets)
        except ConfigError as error:
            text = str(error).removeprefix("training.monitor: ")
            raise ConfigError(f"{text}; the backbone has {', '.join(MODEL_METRICS)}") from error
        short = full.rsplit("/", 1)[-1]
        is_main = full in (metric_key(MEAN, short), metric_key(tuning_sets[0], short)) if tuning_sets else False
        label = short if is_main else full
        reporting = MEAN if len(report_sets) > 1 else report_sets[0] if report_sets else ""
        report_key = metric_key(reporting, short) if reporting and full != EPOCH_LOSS else full
    return Objective(
        label=label,
        direction=_direction(settings, label),
        value=settings.value,
        key=full,
        report_key=report_key,
        model_metric=name if name in MODEL_METRICS else "",
    )


def _direction(settings: ObjectiveConfig, label: str) -> Literal["maximize", "minimize"]:
    mode = "min" if settings.metric in MODEL_METRICS else natural_mode(label)
    natural: Literal["maximize", "minimize"] | None = None
    if mode is not None:
        natural = "minimize" if mode == "min" else "maximize"
    if natural is None and settings.direction is None:
        raise ConfigError(f"of {label} neither more nor less is better by itself; say which with direction")
    if None not in (natural, settings.direction) and natural != settings.direction:
        raise ConfigError(f"{label} is better where it is {'less' if mode == 'min' else 'more'}; remove direction")
    return settings.direction or natural or "maximize"
