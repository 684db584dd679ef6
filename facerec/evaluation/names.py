"""Names of metrics: the same in training, evaluation and tuning."""

from __future__ import annotations

import re
from collections.abc import Sequence

from facerec.config.monitor import EPOCH_LOSS, TRAINING_LOSS, is_training_loss
from facerec.errors import ConfigError, near_match
from facerec.metrics.roc import far_label, is_bound

__all__ = [
    "FAR_TARGETS",
    "MEAN",
    "METRICS",
    "averaged",
    "bound_fars",
    "metric_key",
    "resolve_monitor",
    "tar_name",
    "threshold_name",
]

FAR_TARGETS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Operating points that every result has."""

MEAN = "mean"
"""Takes the place of the set's name in the means over several sets."""

_PREFIX = re.compile(r"^(?:val|eval|test)[_/]")
_ALIASES = {"acc": "accuracy", "acc_std": "accuracy_std"}


def tar_name(far: float) -> str:
    """``tar_at_far_1e-3``."""
    return f"tar_at_far_{far_label(far)}"


def bound_fars(num_impostor: int) -> tuple[float, ...]:
    """Those of `FAR_TARGETS` of which so many impostor pairs show no more than a bound."""
    return tuple(far for far in FAR_TARGETS if is_bound(far, num_impostor=num_impostor))


def threshold_name(far: float) -> str:
    """``threshold_at_far_1e-3``: the cosine from which on pairs are accepted."""
    return f"threshold_at_far_{far_label(far)}"


METRICS = (
    "accuracy",
    "accuracy_std",
    "auc",
    "eer",
    "d_prime",
    "xnorm",
    *map(tar_name, FAR_TARGETS),
    *map(threshold_name, FAR_TARGETS),
)
"""Metrics of every evaluation, without the name of the set."""


def metric_key(set_name: str, metric: str) -> str:
    """``eval/<set>/<metric>``; characters that tracking stores refuse become underscores."""
    return f"eval/{re.sub(r'[^A-Za-z0-9_. -]', '_', set_name)}/{metric}"


def averaged(metric: str) -> bool:
    """Whether a mean over sets says anything; a mean of thresholds is no threshold."""
    return not metric.startswith("threshold_")


def resolve_monitor(name: str, set_names: Sequence[str]) -> str:
    """The full name of the metric that ``training.monitor`` means.

    ``accuracy``, ``acc``, ``val_acc``, ``val/accuracy``, ``auc``, ``tar_at_far_1e-3`` and the like mean the metric of
    the only set, or the mean over several; ``train/loss`` means the
    mean over an epoch, ``train/epoch_loss``; full names mean themselves.

    Raises:
        ConfigError: no evaluation logs such a metric, or there is no evaluation.
    """
    if is_training_loss(name):
        return EPOCH_LOSS
    if not set_names:
        raise ConfigError(
            f"training.monitor: '{name}' comes from an evaluation, but there is no pair set; set eval.bin_file, "
            f"or monitor {TRAINING_LOSS}"
        )
    keys = [metric_key(set_name, metric) for set_name in set_names for metric in METRICS]
    if len(set_names) > 1:
        keys += [metric_key(MEAN, metric) for metric in METRICS if averaged(metric)]
    if name in keys:
        return name
    short = _PREFIX.sub("", name)
    short = _ALIASES.get(short, short)
    key = metric_key(MEAN if len(set_names) > 1 else set_names[0], short)
    if "/" not in short and key in keys:
        return key
    hint = near_match(name, [*keys, TRAINING_LOSS]) if "/" in name else near_match(short, METRICS)
    known = ", ".join([TRAINING_LOSS, *METRICS])
    raise ConfigError(
        f"training.monitor: no evaluation logs '{name}'{hint}; known: {known}, or eval/<set>/<metric> with <set> one "
        f"of {', '.join(set_names)}"
    )
