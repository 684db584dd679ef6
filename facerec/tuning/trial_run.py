"""How the runs of trials are called in the tracking store, and the run of a trial whose training never began."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from facerec.config.load import flatten
from facerec.errors import TrackingError
from facerec.training.tracker import RunDescription
from facerec.tuning.plan import StudyPlan
from facerec.tuning.slots import REASON_ATTR, SLOT_ATTR
from facerec.tuning.tracker import StudyTracker

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["FOLDER_ATTR", "RUN_ATTR", "record_untrained", "run_name", "run_tags"]

FOLDER_ATTR = "facerec.run_folder"
RUN_ATTR = "facerec.run_id"


def run_name(kind: str, slot: str) -> str:
    """The name of a run; ``kind`` is ``trial`` or ``confirmation``."""
    return f"{kind} {slot}"


def run_tags(plan: StudyPlan, *, kind: str, number: int) -> dict[str, str]:
    """What finds a run of a study."""
    return {"facerec.study": plan.name, "facerec.trial": str(number), "facerec.kind": kind}


def record_untrained(
    trial: FrozenTrial, plan: StudyPlan, tracker: StudyTracker, *, kind: str, tell: Callable[[str], None]
) -> None:
    """Open and close a run for a trial that was refused, or failed, before its training opened one."""
    attrs = trial.user_attrs
    # The processes of a training open the run themselves, and it is known here once they have evaluated.
    has_run = RUN_ATTR in attrs or (plan.study.nproc > 1 and FOLDER_ATTR in attrs)
    if has_run or trial.state.name == "COMPLETE" or not plan.base.logging.mlflow:
        return
    values = plan.space.from_params(trial.params)
    run = tracker.trial(
        name=run_name(kind, attrs[SLOT_ATTR]),
        tags=run_tags(plan, kind=kind, number=trial.number),
        keeps_pictures=False,
        on_start=lambda run_id: None,
    )
    description = RunDescription(
        name=run_name(kind, attrs[SLOT_ATTR]),
        experiment=plan.base.logging.experiment,
        # Without a setting there is no configuration: its sampler has failed.
        params=flatten(plan.config_data(values)) if values else {},
        tags=dict(plan.base.logging.tags),
    )
    try:
        run.start(description)
    except TrackingError as error:
        tell(f"{kind} {trial.number}: {error}")
        return
    run.finish("KILLED" if trial.state.name == "PRUNED" else "FAILED", reason=attrs.get(REASON_ATTR, ""))
