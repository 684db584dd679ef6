"""A database that is away for a while costs a study nothing, and for long never a trial."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DataError, OperationalError

from facerec.training.interrupt import Interrupt
from facerec.tuning.outages import StorageAwayError, wait_out_outages
from facerec.tuning.owner import OWNER_ATTR, owner_of_this_process
from facerec.tuning.slots import is_lost
from facerec.tuning.study import Opened, search_slots
from facerec.tuning.worker import Job, Outcome, Phase, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic


def outage() -> StorageInternalError:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))
    return error


class Switch:
    """A storage that answers, or does not, as the test says."""

    def __init__(self, storage: Any) -> None:
        self._inner = storage
        self.is_away = False
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **settings: Any) -> Any:
            if self.is_away:
                self.refused += 1
                raise outage()
            return getattr(self._inner, name)(*arguments, **settings)

        return ask


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    study = make_study(tmp_path, budget={"trials": 3}, recovery={"heartbeat_s": 0.1, "silence_s": 5.0, "retries": 1})
    return open_synthetic(study, storage=f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture
def switch(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Switch:
    switch = Switch(opened.storage._storage)
    monkeypatch.setattr(opened.storage, "_storage", switch)
    return switch


def phase_of(opened: Opened, run) -> Phase:
    slots = search_slots(opened.plan)
    return Phase(name="trial", plan=opened.plan, table=opened.search, slots=slots, run=run, is_search=True)


def test_a_short_outage_costs_no_trial(opened: Opened, switch: Switch) -> None:
    def run(job: Job) -> Outcome:
        if job.number == 1:
            switch.is_away = True
            threading.Timer(0.5, setattr, (switch, "is_away", False)).start()
        return Sum(0.0)(job)

    work(phase_of(opened, run), Interrupt())
    assert switch.refused > 1
    assert [trial.state.name for trial in opened.search.trials()] == ["COMPLETE"] * 3
    assert sorted(opened.search.trials()[1].intermediate_values) == [1, 2, 3]


def test_a_long_outage_ends_the_worker_and_leaves_its_trial_to_be_repeated(
    opened: Opened, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened.storage, "_within_s", 0.5)

    def run(job: Job) -> Outcome:
        if job.number == 1:
            switch.is_away = True
        return Sum(0.0)(job)

    began_s = time.monotonic()
    with pytest.raises(StorageAwayError, match=r"study\.db has not answered for .* server closed the connection"):
        work(phase_of(opened, run), Interrupt())
    assert time.monotonic() - began_s < 10
    switch.is_away = False
    assert [trial.state.name for trial in opened.search.trials()] == ["COMPLETE", "RUNNING", "WAITING"]
    gone = owner_of_this_process() | {"started": "1.00"}
    opened.storage.set_trial_user_attr(opened.search.trials()[1]._trial_id, OWNER_ATTR, gone)
    work(phase_of(opened, Sum(0.0)), Interrupt())
    trials = opened.search.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert is_lost(trials[1])
    assert trials[3].params == trials[1].params


def test_a_signal_ends_the_waiting(opened: Opened, switch: Switch) -> None:
    def run(job: Job) -> Outcome:
        with Interrupt():
            switch.is_away = True
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            return Sum(0.0)(job)

    began_s = time.monotonic()
    with Interrupt() as stop, pytest.raises(StorageAwayError):
        work(phase_of(opened, run), stop)
    assert stop.requested
    assert time.monotonic() - began_s < 20


def test_what_the_database_refuses_is_not_asked_again() -> None:
    asked: list[int] = []

    class Refusing:
        def get_all_studies(self) -> list[object]:
            asked.append(1)
            error = StorageInternalError("An exception is raised during the commit.")
            error.__cause__ = DataError("INSERT", {}, Exception("value too long"))
            raise error

    with pytest.raises(StorageInternalError):
        wait_out_outages(Refusing(), name="db").get_all_studies()
    assert asked == [1]
