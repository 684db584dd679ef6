"""How far a study is: whether its search is over, and how many of its confirmations are done."""

from __future__ import annotations

from dataclasses import dataclass

from facerec.tuning.budget import is_spent
from facerec.tuning.confirm import confirmation_slots
from facerec.tuning.study import Opened, search_slots

__all__ = ["Progress", "progress_of"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a study is."""

    is_search_over: bool
    confirmed: int
    """Confirmations that are done, failed ones and those given up included."""
    to_confirm: int
    """All confirmations of the best settings so far and of the baseline."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_search_over and self.confirmed == self.to_confirm


def progress_of(opened: Opened) -> Progress:
    """Read the storage; once the budget of time or epochs is spent, slots that nobody has taken are not waited for."""
    plan, trials = opened.plan, opened.search.trials()
    standing = opened.search.stand(search_slots(plan))
    is_search_over = not standing.running if is_spent(plan.study.budget, trials) else standing.is_over
    slots = [] if plan.study.is_multi_objective else confirmation_slots(trials, plan)
    confirming = opened.confirmation.stand(slots)
    done = len(confirming.settled) + len(confirming.given_up)
    return Progress(is_search_over=is_search_over, confirmed=done, to_confirm=len(slots))
