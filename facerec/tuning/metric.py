"""From the evaluations of a training to the value of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facerec.config.schema import Config
from facerec.errors import ConfigError
from facerec.evaluation.names import MEAN, metric_key, resolve_monitor
from facerec.training.history import Evaluation
from facerec.tuning.schema import ObjectiveConfig

__all__ = ["MODEL_METRICS", "Objective", "build_objective", "pair_set_names"]

MODEL_METRICS = ("parameters", "macs", "latency_ms")
"""What is known of a backbone without training it."""

_LOW_IS_GOOD = ("loss", "eer", "error", *MODEL_METRICS)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One objective, resolved."""

    label: str
    """The metric as people name it."""
    direction: Literal["maximize", "minimize"]
    value: Literal["best", "last"]
    keys: tuple[str, ...]
    """Metric keys of an evaluation to average; empty for a fact of the model."""
    report_keys: tuple[str, ...] = ()
    """The same on the reporting pairs."""
    model_metric: str = ""
    """One of `MODEL_METRICS`, or empty."""

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.direction == "maximize" else -1.0

    def of(self, evaluation: Evaluation, *, report: bool = False) -> float | None:
        """The metric of one evaluation; None where it was not measured then."""
        keys = self.report_keys if report else self.keys
        found = [evaluation.metrics[key] for key in keys if key in evaluation.metrics]
        return sum(found) / len(found) if found and len(found) == len(keys) else None

    def choose(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        """The evaluation that a training counts by; the untrained network does not compete."""
        measured = [(value, one) for one in evaluations if one.epoch > 0 and (value := self.of(one)) is not None]
        finite = [(value, one) for value, one in measured if math.isfinite(value)]
        if not finite:
            return None
        return finite[-1][1] if self.value == "last" else max(finite, key=lambda pair: self.sign * pair[0])[1]


def pair_set_names(config: Config) -> list[str]:
    """The names of the pair sets in metrics, without reading the files."""
    files = config.bin_files
    if len(files) == 1 and config.eval.dataset:
        return [config.eval.dataset]
    return [Path(name).stem for name in files]


def build_objective(settings: ObjectiveConfig, *, tuning_sets: Sequence[str], report_sets: Sequence[str]) -> Objective:
    """Resolve the metric's name.

    Raises:
        ConfigError: no evaluation logs such a metric.
    """
    name = settings.metric
    if name in MODEL_METRICS:
        keys, report_keys, label = (), (), name
    else:
        try:
            full = resolve_monitor(name, tuning_sets)
        except ConfigError as error:
            text = str(error).removeprefix("training.monitor: ")
            raise ConfigError(f"{text}; the backbone has {', '.join(MODEL_METRICS)}") from error
        short = full.rsplit("/", 1)[-1]
        is_mean = full == metric_key(MEAN, short)
        label = short if is_mean or full == metric_key(tuning_sets[0], short) else full
        keys = tuple(metric_key(one, short) for one in tuning_sets) if is_mean else (full,)
        report_keys = tuple(metric_key(one, short) for one in report_sets) or keys
        if full == "train/loss":
            label, report_keys = full, keys
    return Objective(
        label=label,
        direction=settings.direction or _natural_direction(name),
        value=settings.value,
        keys=keys,
        report_keys=report_keys,
        model_metric=name if name in MODEL_METRICS else "",
    )


def _natural_direction(metric: str) -> Literal["maximize", "minimize"]:
    last = metric.rsplit("/", 1)[-1]
    return "minimize" if any(word in last for word in _LOW_IS_GOOD) else "maximize"
