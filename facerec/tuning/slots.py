"""The places of a study: every trial of the budget is a slot, which exactly one trial fills.

Slots are waiting trials that are put into the storage beforehand; to take one is atomic there. A trial whose worker
died is failed and marked as lost, and its slot is put in again. So the budget is exact however many workers, machines
and restarts there are. Where two machines put the same slot in at the same time, the younger trial is void, also when
the elder has lost its worker meanwhile: its repetition has its setting, which the younger has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerec.tuning.locks import Lock, held, open_lock
from facerec.tuning.owner import OWNER_ATTR, Watch, describe_owner, owner_of_this_process

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = [
    "INTERRUPTED",
    "KILLED",
    "LOST_ATTR",
    "REASON_ATTR",
    "RETRY_ATTR",
    "SLOT_ATTR",
    "Slot",
    "Standing",
    "Table",
    "counted_trials",
    "is_lost",
    "is_void",
    "results",
    "stand",
]

SLOT_ATTR = "facerec.slot"
LOST_ATTR = "facerec.lost"
VOID_ATTR = "facerec.void"
REASON_ATTR = "facerec.reason"
RETRY_ATTR = "facerec.retry_of"

KILLED = "killed"
INTERRUPTED = "interrupted"

_LOCK = ".slots"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place."""

    key: str
    params: dict[str, Any] = field(default_factory=dict)
    """Parameters that are given; the sampler chooses the others."""
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the slots of a study stand."""

    waiting: list[FrozenTrial]
    running: list[FrozenTrial]
    settled: list[FrozenTrial]
    """Complete, pruned, or failed for their own reasons."""
    missing: list[Slot]
    """Slots that no trial fills and that may be put in."""
    given_up: list[Slot]
    """Slots whose workers were killed too often."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.waiting or self.running or self.missing)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the trial ended because its worker did."""
    return trial.state.name == "FAIL" and LOST_ATTR in trial.user_attrs


def is_void(trial: FrozenTrial) -> bool:
    """Whether the trial doubled another one and was never run."""
    return trial.state.name == "FAIL" and VOID_ATTR in trial.user_attrs


def results(trial: FrozenTrial) -> list[float]:
    """The values of a trial, one for each objective; none, where it gave none."""
    return list(trial.values or ())


def counted_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that fill slots, each slot once, by number."""
    holders: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda one: one.number):
        if not is_lost(trial) and not is_void(trial) and SLOT_ATTR in trial.user_attrs:
            holders.setdefault(trial.user_attrs[SLOT_ATTR], trial)
    return list(holders.values())


def stand(trials: Sequence[FrozenTrial], slots: Sequence[Slot], *, retries: int) -> Standing:
    """Where ``slots`` stand; trials of other slots do not count."""
    holders = {trial.user_attrs[SLOT_ATTR]: trial for trial in counted_trials(trials)}
    standing = Standing(waiting=[], running=[], settled=[], missing=[], given_up=[])
    for slot in slots:
        holder = holders.get(slot.key)
        if holder is not None:
            places = {"WAITING": standing.waiting, "RUNNING": standing.running}
            places.get(holder.state.name, standing.settled).append(holder)
            continue
        lost = [trial for trial in trials if is_lost(trial) and trial.user_attrs.get(SLOT_ATTR) == slot.key]
        kills = sum(trial.user_attrs[LOST_ATTR] == KILLED for trial in lost)
        if kills > retries:
            standing.given_up.append(slot)
            continue
        params = lost[-1].params if lost and lost[-1].params else slot.params
        attrs = {**slot.attrs, RETRY_ATTR: lost[-1].number} if lost else slot.attrs
        standing.missing.append(Slot(key=slot.key, params=_stored(params, lost), attrs=attrs))
    return standing


def _is_double(taken: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Whether another trial fills the slot, or is lost and is to be repeated with its setting from its checkpoint."""
    if taken.number not in {trial.number for trial in counted_trials(trials)}:
        return True
    slot = taken.user_attrs[SLOT_ATTR]
    has_lost = any(is_lost(trial) and trial.user_attrs.get(SLOT_ATTR) == slot for trial in trials)
    return has_lost and RETRY_ATTR not in taken.user_attrs


def _stored(params: dict[str, Any], lost: Sequence[FrozenTrial]) -> dict[str, Any]:
    # A trial that was killed while it still waited for its sampler keeps what was given.
    given = lost[-1].system_attrs.get("fixed_params", {}) if lost else {}
    return {**given, **params}


class Table:
    """Puts slots in, takes them, and closes those whose worker died."""

    def __init__(self, study: Study, storage: BaseStorage, *, folder: Path, retries: int, watch: Watch) -> None:
        self.study = study
        self.storage = storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self._folder = folder
        self._retries = retries
        self._watch = watch

    @cached_property
    def _lock(self) -> Lock:
        # Where the storage is a database, the folder exists only on machines that work on the study.
        return open_lock(self._folder / _LOCK)

    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def stand(self, slots: Sequence[Slot]) -> Standing:
        """Where the slots stand now."""
        return stand(self.trials(), slots, retries=self._retries)

    def close_dead(self) -> list[FrozenTrial]:
        """Fail the running trials that have lost their worker; returns those that this call has failed."""
        running = [trial for trial in self.trials() if trial.state.name == "RUNNING"]
        return [trial for trial in running if self._watch.is_dead(trial) and self.lose(trial, KILLED)]

    def is_worked_on(self) -> bool:
        """Whether another process, which is not known to be dead, runs a trial."""
        own = owner_of_this_process()
        running = [trial for trial in self.trials() if trial.state.name == "RUNNING"]
        return any(
            trial.user_attrs.get(OWNER_ATTR) not in (None, own) and not self._watch.is_dead(trial) for trial in running
        )

    def lose(self, trial: FrozenTrial, how: str) -> bool:
        """Fail a trial whose worker has ended or is about to; False where it is finished already."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        owner = describe_owner(trial.user_attrs)
        reason = f"its worker, {owner}, is gone" if how == KILLED else f"its worker, {owner}, was told to stop"
        trial_id = trial._trial_id
        try:
            self.storage.set_trial_user_attr(trial_id, LOST_ATTR, how)
            self.storage.set_trial_user_attr(trial_id, REASON_ATTR, reason)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False
        return True

    def fill(self, slots: Sequence[Slot]) -> None:
        """Put in the slots that are missing; one process of a machine at a time."""
        if not self.stand(slots).missing:
            return
        with held(self._lock):
            for slot in self.stand(slots).missing:
                attrs = {**slot.attrs, SLOT_ATTR: slot.key}
                self.study.enqueue_trial(slot.params, user_attrs=attrs)

    def take(self, slots: Sequence[Slot]) -> FrozenTrial | None:
        """Take the first waiting slot; None where there is none. Its sampler has been asked for nothing yet."""
        keys = {slot.key for slot in slots}
        for waiting in self.trials():
            if waiting.state.name != "WAITING" or waiting.user_attrs.get(SLOT_ATTR) not in keys:
                continue
            trial_id = waiting._trial_id
            # SQLite has no row locks: without ours, two processes of this machine could both take the trial.
            with held(self._lock):
                is_taken = self._try_take(trial_id)
            if not is_taken:
                continue
            self.storage.set_trial_user_attr(trial_id, OWNER_ATTR, owner_of_this_process())
            if _is_double(waiting, self.trials()):
                self._void(trial_id)
                continue
            return self.storage.get_trial(trial_id)
        return None

    def begin(self, taken: FrozenTrial) -> Trial:
        """The trial to suggest settings with; the study's sampler is asked here."""
        from optuna import Trial

        return Trial(self.study, taken._trial_id)

    def fail(self, taken: FrozenTrial, reason: str) -> None:
        """Fail a trial for a reason of its own: its slot is settled."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        # One that another worker has taken for dead is finished already, and its slot is put in again.
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(taken._trial_id, REASON_ATTR, reason)
            self.storage.set_trial_state_values(taken._trial_id, TrialState.FAIL)

    def _try_take(self, trial_id: int) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _void(self, trial_id: int) -> None:
        from optuna.trial import TrialState

        self.storage.set_trial_user_attr(trial_id, VOID_ATTR, True)
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
