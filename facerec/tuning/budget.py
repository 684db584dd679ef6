"""What the trials of a study have used up: time and epochs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from facerec.tuning.owner import HEARTBEAT_ATTR
from facerec.tuning.slots import KILLED, LOST_ATTR, counted_trials

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from facerec.tuning.schema import BudgetConfig

__all__ = ["EPOCHS_ATTR", "busy_s", "epochs_of", "is_spent", "spent_epochs"]

EPOCHS_ATTR = "facerec.epochs"


def is_spent(budget: BudgetConfig, trials: Sequence[FrozenTrial]) -> bool:
    """Whether the trials of a study have used up its time or its epochs.

    The time of a trial whose worker died counts, its epochs do not: its repetition goes on from them.
    """
    return (budget.hours is not None and busy_s(trials) >= 3600 * budget.hours) or (
        budget.epochs is not None and spent_epochs(counted_trials(trials)) >= budget.epochs
    )


def spent_epochs(trials: Sequence[FrozenTrial]) -> int:
    """Epochs that the trials have trained, together."""
    return sum(map(epochs_of, trials))


def epochs_of(trial: FrozenTrial) -> int:
    """Epochs that a trial has trained, as far as it has told."""
    return int(max(trial.user_attrs.get(EPOCHS_ATTR, 0), trial.last_step or 0))


def busy_s(trials: Sequence[FrozenTrial]) -> float:
    """Seconds in which at least one of the trials was running."""
    spans = [(_aware(trial.datetime_start), _end(trial)) for trial in trials if trial.datetime_start is not None]
    total, reached = 0.0, None
    for start, end in sorted(spans):
        begin = start if reached is None or start > reached else reached
        if end > begin:
            total += (end - begin).total_seconds()
            reached = end
    return total


def _end(trial: FrozenTrial) -> datetime:
    assert trial.datetime_start is not None
    if trial.user_attrs.get(LOST_ATTR) == KILLED:
        # It was closed when somebody looked, perhaps the next morning; its worker lived until its last sign of life.
        sign = trial.user_attrs.get(HEARTBEAT_ATTR)
        return _aware(datetime.fromisoformat(sign) if sign else trial.datetime_start)
    start = _aware(trial.datetime_start)
    return _aware(trial.datetime_complete) if trial.datetime_complete else datetime.now(start.tzinfo)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.astimezone()
