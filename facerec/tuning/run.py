"""A whole study: the search, its confirmation, and the report, by one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facerec.errors import FacerecError
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.training.tracker import RunStatus
from facerec.training.warm import WarmData
from facerec.tuning.bounds import bounds_of, check_baseline, model_facts
from facerec.tuning.confirm import confirmation_slots
from facerec.tuning.plan import StudyPlan
from facerec.tuning.pool import run_workers
from facerec.tuning.progress import progress_of
from facerec.tuning.report import StudyReport, write_report
from facerec.tuning.slots import REASON_ATTR, Slot
from facerec.tuning.study import RUN_ID_ATTR, Opened, open_study, search_slots
from facerec.tuning.study_run import close_study_run, open_study_run
from facerec.tuning.tracker import StudyTracker
from facerec.tuning.trial import Trainer, drop_checkpoints, report_config
from facerec.tuning.trial_run import RUN_ATTR, record_untrained
from facerec.tuning.worker import Phase, Runner, work

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["Workers", "join_study", "run_study"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Processes to start for a study."""

    count: int
    command: Sequence[str]
    """Starts one worker."""


def run_study(
    plan: StudyPlan, *, tracker: StudyTracker, tell: Callable[[str], None], workers: Workers | None = None
) -> StudyReport:
    """Bring a study to its budget, confirm its best settings and write its report.

    Without ``workers`` this process does the work itself.

    Raises:
        TrainingInterrupted: a signal asked to stop; the same call goes on.
        ConfigError: the data or the study in its storage does not fit, or the baseline breaks a bound.
        FacerecError: every worker has ended and work is left.
    """
    if bounds_of(plan.study.constraints):
        check_baseline(plan, model_facts(plan.base, with_latency=False), tell=tell)
    data = WarmData()
    opened = open_study(plan, data_digests=_digests(plan, data))
    open_study_run(opened, tracker)
    status: RunStatus = "FAILED"
    reason = ""
    try:
        with Interrupt() as stop:
            if workers is None:
                _work(opened, Trainer(plan=plan, tracker=tracker, data=data), tracker, stop=stop, tell=tell)
            else:
                opened.search.fill(search_slots(plan))
                run_workers(workers.command, count=workers.count, plan=plan, stop=stop, tell=tell)
                _check_finished(opened)
        report = write_report(opened, tracker)
        _drop_losers(report, plan)
        status, reason = "FINISHED", ""
    except TrainingInterrupted as stopped:
        status, reason = "KILLED", str(stopped)
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        close_study_run(opened, tracker, status=status, reason=reason)
    return report


def join_study(
    plan: StudyPlan, *, tracker: StudyTracker, tell: Callable[[str], None], runner: Runner | None = None
) -> None:
    """Work on a study that another process reports on; ends with the process that has started this one.

    Raises:
        TrainingInterrupted: a signal asked to stop, or that process is gone.
    """
    data = WarmData()
    parent = os.getppid()
    opened = open_study(plan, data_digests=_digests(plan, data) if runner is None else {})
    tracker.join(opened.search.study.user_attrs.get(RUN_ID_ATTR))
    with Interrupt() as stop:
        _work(
            opened,
            runner or Trainer(plan=plan, tracker=tracker, data=data),
            tracker,
            stop=stop,
            tell=tell,
            should_stop=lambda: os.getppid() != parent,
        )


def _work(
    opened: Opened,
    runner: Runner,
    tracker: StudyTracker,
    *,
    stop: Interrupt,
    tell: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    plan = opened.plan
    search = _phase(opened, runner, tracker, slots=search_slots(plan), is_search=True, tell=tell)
    work(search, stop, should_stop=should_stop)
    slots = confirmation_slots(opened.search.trials(), plan) if not plan.study.is_multi_objective else []
    if not slots:
        return
    confirming: Any = runner
    if isinstance(runner, Trainer):
        confirming = Trainer(plan=plan, tracker=tracker, is_confirmation=True, data=runner.data)
    work(_phase(opened, confirming, tracker, slots=slots, is_search=False, tell=tell), stop, should_stop=should_stop)


def _phase(
    opened: Opened,
    runner: Runner,
    tracker: StudyTracker,
    *,
    slots: Sequence[Slot],
    is_search: bool,
    tell: Callable[[str], None],
) -> Phase:
    plan, kind = opened.plan, "trial" if is_search else "confirmation"

    def close_run(trial: FrozenTrial) -> None:
        run_id = trial.user_attrs.get(RUN_ATTR)
        if run_id is not None:
            tracker.close_lost(run_id, reason=trial.user_attrs.get(REASON_ATTR, "its worker is gone"))

    return Phase(
        name=kind,
        plan=plan,
        table=opened.search if is_search else opened.confirmation,
        slots=slots,
        run=runner,
        is_search=is_search,
        tell=tell,
        on_lost=close_run,
        on_settled=lambda trial: record_untrained(trial, plan, tracker, kind=kind, tell=tell),
    )


def _digests(plan: StudyPlan, data: WarmData) -> dict[str, str]:
    """What names the data by content; opening it also finds out now whether it can be used."""
    digests = {"train": data.pack(plan.base).fingerprint}
    for config in filter(None, (plan.base, report_config(plan))):
        digests |= {pairs.name: pairs.sha256 for pairs in data.pair_sets(config)}
    return digests


def _check_finished(opened: Opened) -> None:
    if not progress_of(opened).is_over:
        raise FacerecError(
            f"every worker of study {opened.plan.name} has ended and work is left; see "
            f"{opened.plan.folder / 'workers'} for why, then give the same command to go on"
        )


def _drop_losers(report: StudyReport, plan: StudyPlan) -> None:
    """Remove the weights of all trials but the best of the search and the first confirmation of the winner."""
    for kind in ("trials", "confirm"):
        for folder in (plan.folder / kind).glob("*"):
            if folder.name not in report.kept_slots:
                drop_checkpoints(folder)
