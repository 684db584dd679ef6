"""The one run of the tracking store that a study has, however many machines work on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from facerec.config.load import flatten
from facerec.training.tracker import RunStatus
from facerec.tuning.outages import StorageAwayError
from facerec.tuning.owner import OWNER_ATTR, has_ended_here, owner_of_this_process
from facerec.tuning.study import RUN_ID_ATTR, Opened
from facerec.tuning.tracker import StudyTracker

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["close_study_run", "open_study_run"]

_POLL_S = 0.5
_LONGEST_OPENING_S = 120.0
"""After so long an opening counts as left by a process that died; a tracker waits a minute for its store."""


def open_study_run(opened: Opened, tracker: StudyTracker) -> None:
    """Open the study's run, or go on with the one that this or another machine has opened."""
    study = opened.search.study
    with _one_at_a_time(opened.storage, f"{opened.plan.name}:opening"):
        known = study.user_attrs.get(RUN_ID_ATTR)
        _open(opened, tracker, run_id=known)
        if tracker.run_id is not None and tracker.run_id != known:
            study.set_user_attr(RUN_ID_ATTR, tracker.run_id)


def close_study_run(opened: Opened, tracker: StudyTracker, *, status: RunStatus, reason: str) -> None:
    """Close the run; who stops before the study is over leaves it open to the others that work on it."""
    is_over = status == "FINISHED"
    with suppress(StorageAwayError):
        if not is_over and any(table.is_worked_on() for table in (opened.search, opened.confirmation)):
            tracker.leave()
            return
    tracker.finish(status, reason=reason)


def _open(opened: Opened, tracker: StudyTracker, *, run_id: str | None) -> None:
    plan = opened.plan
    settings = flatten({"study": {"budget": vars(plan.study.budget), "sampler": vars(plan.study.sampler)}})
    settings |= flatten({"study": {"pruner": vars(plan.study.pruner), "confirm": vars(plan.study.confirm)}})
    space = {f"space.{dimension.name}": dimension.describe() for dimension in plan.space.dimensions}
    goal = {f"objective.{one.label}": one.direction for one in plan.objectives}
    tracker.open(
        name=plan.name,
        params={**settings, **space, **goal, "study.base": plan.study.base},
        tags={"facerec.study": plan.name, "facerec.kind": "study"},
        run_id=run_id,
    )


@contextmanager
def _one_at_a_time(storage: BaseStorage, name: str) -> Iterator[None]:
    """Let one process in at a time, of all machines: it holds a name in the storage, which no two can create there.

    A lock in the study's folder would not do: machines that share a database need not share a disk.
    """
    held_id = _hold(storage, name)
    try:
        yield
    finally:
        _give_back(storage, held_id)


def _hold(storage: BaseStorage, name: str) -> int:
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    holder, since_s = None, time.monotonic()
    while True:
        try:
            held_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
        except DuplicatedStudyError:
            current = _holder(storage, name)
            if current != holder:
                holder, since_s = current, time.monotonic()
            if current is not None and (_is_dead(storage, current) or time.monotonic() - since_s > _LONGEST_OPENING_S):
                _give_back(storage, current)
            else:
                time.sleep(_POLL_S)
            continue
        storage.set_study_user_attr(held_id, OWNER_ATTR, owner_of_this_process())
        return held_id


def _holder(storage: BaseStorage, name: str) -> int | None:
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        return None


def _is_dead(storage: BaseStorage, held_id: int) -> bool:
    with suppress(KeyError):
        owner = storage.get_study_user_attrs(held_id).get(OWNER_ATTR)
        return owner is not None and has_ended_here(owner)
    return False


def _give_back(storage: BaseStorage, held_id: int) -> None:
    with suppress(KeyError):
        storage.delete_study(held_id)
