"""The trained model that a study recommends."""

from __future__ import annotations

from pathlib import Path

from facerec.errors import MissingPathError, UsageError
from facerec.training.run_folder import latest_run
from facerec.tuning.confirm import slot_key
from facerec.tuning.plan import StudyPlan
from facerec.tuning.report import StudyReport
from facerec.tuning.slots import SLOT_ATTR

__all__ = ["check_single_winner", "winner_run"]


def check_single_winner(plan: StudyPlan) -> None:
    """Refuse a study that can have no single best model.

    Raises:
        UsageError: it has several objectives.
    """
    if plan.study.is_multi_objective:
        raise UsageError(
            f"--register-as: study {plan.name} has several objectives and no single best model; train one of its "
            "compromises with `facerec train --from-trial` and register that"
        )


def winner_run(report: StudyReport) -> Path:
    """The checkpoint of the tuned setting that was judged: of its first confirmation, or of the search's best trial.

    Raises:
        UsageError: the study has no single best setting.
        MissingPathError: no trial was trained to its end, or the winner was trained on another machine.
    """
    plan, verdict, best = report.plan, report.verdict, report.best
    check_single_winner(plan)
    if verdict is not None and verdict.winner.by_seed:
        place = plan.folder / "confirm" / slot_key(verdict.winner.number, min(verdict.winner.by_seed))
    elif best is not None:
        place = plan.folder / "trials" / best.user_attrs[SLOT_ATTR]
    else:
        raise MissingPathError(f"study {plan.name} has no trained model to register: no trial has completed")
    try:
        return latest_run(place) / plan.objective.value
    except MissingPathError as error:
        raise MissingPathError(
            f"the winner of study {plan.name} was trained on another machine: {place} holds no run; register it there"
        ) from error
