"""What is known of a monitored metric by its name; for ``training.monitor`` and the objective of a study."""

from __future__ import annotations

from typing import Literal

__all__ = ["EPOCH_ACCURACY", "EPOCH_LOSS", "TRAINING_LOSS", "is_training_loss", "natural_mode"]

TRAINING_LOSS = "train/loss"
"""As users name the loss of an epoch; as a curve it has a point for every few steps."""
EPOCH_LOSS = "train/epoch_loss"
"""Mean over an epoch: the key in evaluations, in the history and in the tracker."""
EPOCH_ACCURACY = "train/epoch_accuracy"
"""Likewise, of the share of pictures whose own class has the largest logit."""

_LESS_IS_BETTER = ("loss", "eer", "error", "_std")
_NEITHER = ("threshold_at_", "xnorm")


def is_training_loss(name: str) -> bool:
    """Whether a monitor is the loss of the training, which needs no pair set."""
    return name in (TRAINING_LOSS, EPOCH_LOSS)


def natural_mode(metric: str) -> Literal["max", "min"] | None:
    """``max`` or ``min`` for the metric of that name, short or full; None where neither is better.

    >>> natural_mode("accuracy"), natural_mode("eval/lfw/eer"), natural_mode("xnorm")
    ('max', 'min', None)
    """
    last = metric.rsplit("/", 1)[-1]
    if any(word in last for word in _NEITHER):
        return None
    return "min" if any(word in last for word in _LESS_IS_BETTER) else "max"
