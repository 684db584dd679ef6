"""The run of a study: one, however many machines begin at once, and open as long as one of them works."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from facerec.training.interrupt import Interrupt
from facerec.tuning.owner import OWNER_ATTR, owner_of_this_process
from facerec.tuning.run import _phase
from facerec.tuning.study import RUN_ID_ATTR, Opened, search_slots
from facerec.tuning.study_run import close_study_run, open_study_run
from facerec.tuning.worker import Infeasible, Job, Outcome, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic
from tests.tuning.trackers import RememberingTracker


@pytest.mark.parametrize("kind", ["a journal that they share", "a database alone"])
def test_machines_that_begin_at_once_share_one_run(tmp_path: Path, kind: str) -> None:
    is_database = kind == "a database alone"
    storage = f"sqlite:///{tmp_path / 'study.db'}" if is_database else None
    studies: list[Opened] = []
    for name in ("a", "b", "c"):
        folder = tmp_path / name if is_database else tmp_path
        folder.mkdir(exist_ok=True)
        studies.append(open_synthetic(make_study(folder), storage=storage))
    trackers = [RememberingTracker(f"run of {index}", seconds=0.3) for index in range(3)]
    threads = [threading.Thread(target=open_study_run, args=pair) for pair in zip(studies, trackers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    created = [name for tracker in trackers for name in tracker.created]
    assert len(created) == 1
    assert {tracker.run_id for tracker in trackers} == set(created)
    assert studies[0].search.study.user_attrs[RUN_ID_ATTR] == created[0]
    assert [one.study_name for one in studies[0].storage.get_all_studies()] == ["synthetic", "synthetic:confirmation"]


def test_an_opening_that_a_dead_process_has_left_holds_nobody_up(tmp_path: Path) -> None:
    import optuna

    opened = open_synthetic(make_study(tmp_path))
    left = optuna.create_study(storage=opened.storage, study_name="synthetic:opening")
    left.set_user_attr(OWNER_ATTR, owner_of_this_process() | {"started": "1.00"})
    began_s = time.monotonic()
    open_study_run(opened, RememberingTracker())
    assert time.monotonic() - began_s < 10
    assert opened.search.study.user_attrs[RUN_ID_ATTR] == "run"


def test_who_stops_leaves_the_run_open_to_another_machine_that_works(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path))
    tracker = RememberingTracker()
    own = opened.search.study.ask()
    own.set_user_attr(OWNER_ATTR, owner_of_this_process())
    close_study_run(opened, tracker, status="KILLED", reason="stopped by SIGTERM")
    elsewhere = opened.confirmation.study.ask()
    elsewhere.set_user_attr(OWNER_ATTR, owner_of_this_process() | {"host": "elsewhere"})
    close_study_run(opened, tracker, status="KILLED", reason="stopped by SIGTERM")
    close_study_run(opened, tracker, status="FINISHED", reason="")
    assert tracker.ended == ["KILLED", "left", "FINISHED"]


def test_a_trial_that_ends_before_its_training_has_a_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(settings: object, *, space: object, number: int) -> None:
        if number == 3:
            raise RuntimeError("no convergence")
        return sampler(settings, space=space, number=number)

    from facerec.tuning import worker

    sampler = worker.build_sampler
    monkeypatch.setattr(worker, "build_sampler", build)
    study = make_study(tmp_path, set={"training.epochs": 3, "logging.mlflow": True}, budget={"trials": 5})
    opened = open_synthetic(study)

    def run(job: Job) -> Outcome:
        if job.number == 1:
            raise Infeasible("not trained: macs 2 is above 1")
        if job.number == 2:
            raise ValueError("head.margin cannot be used")
        job.note("facerec.run_id", f"of {job.number}")
        if job.number == 4:
            raise ValueError("failed while it trained")
        return Sum(0.0)(job)

    tracker = RememberingTracker()
    work(
        _phase(opened, run, tracker, slots=search_slots(opened.plan), is_search=True, tell=lambda line: None),
        Interrupt(),
    )
    told = [(run.name, run.tags["facerec.trial"], run.status, run.reason) for run in tracker.runs]
    assert told == [
        ("trial 0001", "1", "KILLED", "not trained: macs 2 is above 1"),
        ("trial 0002", "2", "FAILED", "ValueError: head.margin cannot be used"),
        ("trial 0003", "3", "FAILED", "the sampler tpe has no setting for it: RuntimeError: no convergence"),
    ]
    assert tracker.runs[0].params["head.margin"] == opened.search.trials()[1].params["head.margin"]
    assert tracker.runs[2].params == {}
