"""The evaluations of a run, and what follows from them: the best epoch and the early stop.

Nothing here is state of its own: both are computed from the list of evaluations, so a resumed run cannot disagree with
an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Evaluation", "Judgement", "judge"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics after so many epochs; epoch 0 is the untrained network."""

    epoch: int
    step: int
    metrics: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"epoch": self.epoch, "step": self.step, "metrics": self.metrics}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a run's evaluations say."""

    best: Evaluation | None
    """The first evaluation that no later one surpassed by more than ``min_delta``."""
    without_improvement: int
    """Evaluations since the best."""


def judge(evaluations: list[Evaluation], *, key: str, mode: Literal["max", "min"], min_delta: float = 0.0) -> Judgement:
    """Find the best evaluation by the metric ``key``; the untrained network does not compete."""
    sign = 1.0 if mode == "max" else -1.0
    best: Evaluation | None = None
    since = 0
    for evaluation in evaluations:
        if evaluation.epoch == 0 or key not in evaluation.metrics:
            continue
        if best is None or sign * (evaluation.metrics[key] - best.metrics[key]) > min_delta:
            best, since = evaluation, 0
        else:
            since += 1
    return Judgement(best=best, without_improvement=since)
