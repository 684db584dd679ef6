"""One worker: takes a trial, runs it, tells how it ended, until nothing is left to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from facerec.errors import FacerecError, TrainingError, one_line
from facerec.training.interrupt import Interrupt, TrainingInterrupted, TrainingStopped
from facerec.tuning.budget import is_spent as is_budget_spent
from facerec.tuning.outages import StorageAwayError
from facerec.tuning.owner import Heart
from facerec.tuning.samplers import build_sampler
from facerec.tuning.slots import INTERRUPTED, REASON_ATTR, RETRY_ATTR, SLOT_ATTR, Slot, Table, is_lost, results

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial, TrialState

    from facerec.tuning.plan import StudyPlan

__all__ = ["Infeasible", "Job", "Outcome", "Phase", "Pruned", "Runner", "work"]

_POLL_S = 0.5


class Pruned(TrainingStopped):
    """The pruner has given the trial up."""


class Infeasible(FacerecError):  # noqa: N818 - a setting that the constraints exclude is no error
    """The setting breaks a constraint and was not trained."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial reached."""

    values: tuple[float, ...]
    """One for each objective."""
    attrs: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping with the trial."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial, as the work on it sees it."""

    number: int
    slot: str
    values: dict[str, Any]
    """The setting, by dotted key."""
    attrs: dict[str, Any]
    is_retry: bool
    report: Callable[[int, float], None]
    """Told of the objective after so many epochs; raises `Pruned`."""
    constrain: Callable[[str, float], None]
    """Told how far a bound is exceeded; at most 0 is within it."""
    note: Callable[[str, Any], None]
    """Keeps something with the trial."""


class Runner(Protocol):
    """The work on a trial."""

    def __call__(self, job: Job) -> Outcome:
        """Do it.

        Raises:
            Pruned: the pruner has given the trial up.
            Infeasible: the setting breaks a constraint.
            TrainingInterrupted: a signal asked to stop.
            Exception: the trial has failed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The search, or its confirmation."""

    name: str
    plan: StudyPlan
    table: Table
    slots: Sequence[Slot]
    run: Runner
    is_search: bool
    """Whether the budget of time and epochs counts and the pruner is asked; the baseline is never pruned."""
    tell: Callable[[str], None] = lambda line: None
    on_lost: Callable[[FrozenTrial], None] = lambda trial: None
    """Told of each trial of a dead worker."""
    on_settled: Callable[[FrozenTrial], None] = lambda trial: None
    """Told of each trial that this worker has settled."""


def work(phase: Phase, stop: Interrupt, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Work on a phase until all its slots are settled, or its budget of time or epochs is spent.

    Raises:
        TrainingInterrupted: a signal asked to stop; the trial under way can be taken up again.
    """
    while True:
        _stop_if_asked(stop, should_stop)
        for trial in phase.table.close_dead():
            phase.tell(f"{phase.name} {trial.number}: its worker is gone")
            phase.on_lost(trial)
        is_spent = phase.is_search and is_budget_spent(phase.plan.study.budget, phase.table.trials())
        if not is_spent:
            phase.table.fill(phase.slots)
        trial = None if is_spent else _take(phase)
        if trial is not None:
            _run(phase, trial)
        elif _is_over(phase, is_spent=is_spent):
            return
        else:
            time.sleep(_POLL_S)


def _is_over(phase: Phase, *, is_spent: bool) -> bool:
    standing = phase.table.stand(phase.slots)
    return not standing.running if is_spent else standing.is_over


def _stop_if_asked(stop: Interrupt, should_stop: Callable[[], bool]) -> None:
    import signal

    number = stop.signal_number or (signal.SIGTERM if should_stop() else None)
    if number is not None:
        name = signal.Signals(number).name
        raise TrainingInterrupted(f"stopped by {name}; the same command goes on", signal_number=number)


def _take(phase: Phase) -> Trial | None:
    taken = phase.table.take(phase.slots)
    if taken is None:
        return None
    settings = phase.plan.study.sampler
    try:
        # A sampler for each trial, so that its draws depend on the trial and neither on the worker nor on restarts.
        phase.table.study.sampler = build_sampler(settings, space=phase.plan.space, number=taken.number)
        return phase.table.begin(taken)
    except StorageAwayError:
        raise
    except Exception as error:  # noqa: BLE001 - a sampler may fail in any way at one trial, and the study goes on
        phase.table.fail(taken, f"the sampler {settings.name} has no setting for it: {_one_line(error)}")
    _tell_settled(phase, phase.table.storage.get_trial(taken._trial_id))
    return None


def _run(phase: Phase, trial: Trial) -> None:
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        with Heart(phase.table.storage, trial._trial_id, every_s=phase.plan.study.recovery.heartbeat_s):
            state, values = _attempt(phase, trial)
        _finish(phase, trial, state, values)
    except (UpdateFinishedTrialError, ValueError) as error:
        if not _frozen(phase, trial).state.is_finished():
            raise
        # Another worker took this one for dead and closed its trial: that counts, and nothing is completed twice.
        phase.tell(f"{phase.name} {trial.number}: closed by another worker, so its result is left out ({error})")
        return
    _tell_settled(phase, _frozen(phase, trial))


def _tell_settled(phase: Phase, trial: FrozenTrial) -> None:
    phase.tell(_describe(phase, trial))
    phase.on_settled(trial)


def _finish(phase: Phase, trial: Trial, state: TrialState, values: list[float] | None) -> None:
    try:
        # Not the storage's own call: `tell` also makes the sampler look at the other trials again.
        phase.table.study.tell(trial, values, state=state)
    except StorageAwayError:
        raise
    except Exception as error:
        frozen = _frozen(phase, trial)
        if not frozen.state.is_finished() or is_lost(frozen):
            raise
        # The trial is stored before its sampler looks at it; what that raises must not cost the worker.
        phase.tell(f"{phase.name} {trial.number}: the sampler failed after it: {_one_line(error)}")


def _attempt(phase: Phase, trial: Trial) -> tuple[TrialState, list[float] | None]:
    """Run the trial; its state, and its values where it is complete."""
    from optuna.trial import TrialState

    try:
        outcome = phase.run(_job(phase, trial))
        values = _finite(outcome.values)
        for name, value in outcome.attrs.items():
            trial.set_user_attr(name, value)
    except (Pruned, Infeasible) as stopped:
        trial.set_user_attr(REASON_ATTR, str(stopped))
        return TrialState.PRUNED, None
    except (TrainingInterrupted, KeyboardInterrupt):
        phase.table.lose(_frozen(phase, trial), INTERRUPTED)
        raise
    except StorageAwayError:
        # Its worker ends, and the trial is not settled: whoever finds it takes it up again.
        raise
    except Exception as error:  # noqa: BLE001 - a trial may fail in any way, and the study goes on
        trial.set_user_attr(REASON_ATTR, _one_line(error))
        return TrialState.FAIL, None
    return TrialState.COMPLETE, list(values)


def _job(phase: Phase, trial: Trial) -> Job:
    frozen = _frozen(phase, trial)
    values = phase.plan.space.suggest(trial)
    is_baseline = bool(frozen.user_attrs.get("facerec.baseline"))
    epochs = phase.plan.config_data(values)["training"]["epochs"]

    def report(epoch: int, value: float) -> None:
        if phase.plan.study.is_multi_objective:
            return
        trial.report(value, step=epoch)
        # After the last epoch there is nothing left to save.
        if phase.is_search and not is_baseline and epoch < epochs and trial.should_prune():
            raise Pruned(f"given up after epoch {epoch} at {value:.4f}")

    return Job(
        number=trial.number,
        slot=frozen.user_attrs[SLOT_ATTR],
        values=values,
        attrs=dict(frozen.user_attrs),
        is_retry=RETRY_ATTR in frozen.user_attrs,
        report=report,
        constrain=trial.set_constraint,
        note=trial.set_user_attr,
    )


def _frozen(phase: Phase, trial: Trial) -> FrozenTrial:
    return phase.table.storage.get_trial(trial._trial_id)


def _finite(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not math.isfinite(value):
            raise TrainingError(f"the objective is {value}, which is no result")
    return values


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, most_chars=2000)}"


def _describe(phase: Phase, trial: FrozenTrial) -> str:
    result = " ".join(f"{value:.4f}" for value in results(trial)) + " " if trial.state.name == "COMPLETE" else ""
    reason = trial.user_attrs.get(REASON_ATTR, "")
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    done = len(phase.table.stand(phase.slots).settled)
    text = f"{phase.name} {trial.number} {words.get(trial.state.name, trial.state.name)} {result}{reason}"
    return f"{text.rstrip()}  ({done} of {len(phase.slots)})"
