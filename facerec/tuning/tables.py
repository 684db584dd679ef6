"""Trials and candidates as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from facerec.tuning.budget import epochs_of
from facerec.tuning.confirm import Candidate
from facerec.tuning.plan import StudyPlan
from facerec.tuning.slots import LOST_ATTR, REASON_ATTR, SLOT_ATTR, is_void

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["candidates_markdown", "trials_csv", "trials_markdown"]

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def trials_csv(trials: Sequence[FrozenTrial], plan: StudyPlan) -> str:
    """Every trial, a line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_header(plan))
    writer.writerows(_rows(trials, plan))
    return stream.getvalue()


def trials_markdown(trials: Sequence[FrozenTrial], plan: StudyPlan) -> str:
    """Every trial as a Markdown table."""
    return _markdown(_header(plan), _rows(trials, plan))


def candidates_markdown(candidates: Sequence[Candidate], plan: StudyPlan) -> str:
    """What was confirmed, as a Markdown table; empty where nothing was."""
    confirmed = [one for one in candidates if one.by_seed]
    if not confirmed:
        return ""
    header = ["trial", f"{plan.objective.label}, mean", "std", "seeds", "search saw (optimistic)"]
    rows = [
        [
            f"{one.number} (baseline)" if one.is_baseline else one.number,
            one.mean,
            one.std,
            len(one.by_seed),
            one.search_value,
        ]
        for one in confirmed
    ]
    return _markdown(header, rows)


def _header(plan: StudyPlan) -> list[str]:
    names = [dimension.name for dimension in plan.space.dimensions]
    return ["trial", "slot", "state", *(one.label for one in plan.objectives), "epochs", "seconds", *names, "reason"]


def _rows(trials: Sequence[FrozenTrial], plan: StudyPlan) -> list[list[Any]]:
    return [_row(trial, plan) for trial in trials if not is_void(trial)]


def _row(trial: FrozenTrial, plan: StudyPlan) -> list[Any]:
    attrs = trial.user_attrs
    values = list(trial.values) if trial.values else [None] * len(plan.objectives)
    took = trial.duration.total_seconds() if trial.duration is not None else None
    state = "lost" if trial.state.name == "FAIL" and LOST_ATTR in attrs else _STATES[trial.state.name]
    params = [trial.params.get(dimension.name) for dimension in plan.space.dimensions]
    return [trial.number, attrs.get(SLOT_ATTR), state, *values, epochs_of(trial), took, *params, attrs.get(REASON_ATTR)]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(_cell(value) for value in cells) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", "\\|")
