"""Workers of a study that are killed, stopped and restarted: every slot is settled once, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from facerec.training.interrupt import Interrupt
from facerec.tuning.confirm import confirmation_slots
from facerec.tuning.pool import run_workers
from facerec.tuning.progress import progress_of
from facerec.tuning.slots import KILLED, LOST_ATTR, SLOT_ATTR, counted_trials, is_lost, is_void
from facerec.tuning.study import Opened, search_slots
from tests.postgres import postgres_server, running_postgres
from tests.tuning.synthetic import make_study, open_synthetic, start_worker

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
TRIALS = 12


def wait_for(condition: Callable[[], bool], *, what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def finish(workers: list[subprocess.Popen[str]]) -> list[str]:
    return [worker.communicate(timeout=120)[0] for worker in workers]


def running(opened: Opened) -> list[int]:
    return [trial.user_attrs["facerec.owner"]["pid"] for trial in opened.search.trials() if signed(trial)]


def signed(trial) -> bool:
    return trial.state.name == "RUNNING" and "facerec.owner" in trial.user_attrs


def assert_exact(opened: Opened, *, trials: int = TRIALS) -> None:
    """Every slot of the search and of the confirmation is settled by exactly one trial."""
    holders = counted_trials(opened.search.trials())
    assert Counter(trial.user_attrs[SLOT_ATTR] for trial in holders) == Counter(
        f"{index:04d}" for index in range(trials)
    )
    assert {trial.state.name for trial in holders} <= {"COMPLETE", "PRUNED", "FAIL"}
    others = [trial for trial in opened.search.trials() if trial not in holders]
    assert all(is_lost(trial) or is_void(trial) for trial in others)
    slots = confirmation_slots(opened.search.trials(), opened.plan)
    confirmed = counted_trials(opened.confirmation.trials())
    assert sorted(trial.user_attrs[SLOT_ATTR] for trial in confirmed) == sorted(slot.key for slot in slots)
    assert [trial.user_attrs for trial in confirmed if trial.state.name != "COMPLETE"] == []


def test_of_three_workers_one_killed_and_one_stopped_leave_exact_counts(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    opened = open_synthetic(study)
    workers = [start_worker(study, seconds=0.6) for _ in range(3)]
    wait_for(lambda: {worker.pid for worker in workers} <= set(running(opened)), what="three running trials")
    os.kill(workers[0].pid, signal.SIGKILL)
    os.kill(workers[1].pid, signal.SIGTERM)
    outputs = finish(workers)
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 128 + signal.SIGTERM, 0], outputs
    assert_exact(opened)
    lost = [trial for trial in opened.search.trials() if is_lost(trial)]
    assert sum(trial.user_attrs[LOST_ATTR] == KILLED for trial in lost) == 1
    for trial in lost:
        (again,) = [one for one in opened.search.trials() if one.user_attrs.get("facerec.retry_of") == trial.number]
        assert again.params.items() >= trial.params.items()
        assert again.state.name == "COMPLETE"


def test_after_all_workers_died_the_same_command_finishes_the_study(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    opened = open_synthetic(study)
    workers = [start_worker(study, seconds=0.5) for _ in range(2)]
    wait_for(lambda: len(counted_done(opened)) >= 3, what="three settled trials")
    done = [trial.number for trial in counted_done(opened)]
    for worker in workers:
        os.killpg(worker.pid, signal.SIGKILL)
    finish(workers)
    assert len(counted_done(opened)) < TRIALS
    (output,) = finish([start_worker(study)])
    assert "its worker is gone" in output
    assert_exact(opened)
    # What was settled before stays as it was.
    assert set(done) <= {trial.number for trial in counted_done(opened)}


def counted_done(opened: Opened) -> list:
    return [trial for trial in counted_trials(opened.search.trials()) if trial.state.is_finished()]


def test_eight_workers_on_tiny_trials_settle_every_slot_once(tmp_path: Path) -> None:
    study = make_study(tmp_path, budget={"trials": 60})
    workers = [start_worker(study) for _ in range(8)]
    outputs = finish(workers)
    assert [worker.returncode for worker in workers] == [0] * 8, outputs
    opened = open_synthetic(study)
    assert_exact(opened, trials=60)
    assert all(trial.state.name == "COMPLETE" for trial in counted_trials(opened.search.trials()))


def test_workers_on_one_sqlite_file_meet_no_lock(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = make_study(tmp_path, budget={"trials": 24})
    workers = [start_worker(study, storage=storage) for _ in range(4)]
    outputs = finish(workers)
    assert [worker.returncode for worker in workers] == [0] * 4, outputs
    assert_exact(open_synthetic(study, storage=storage), trials=24)


def test_a_trial_is_given_up_when_its_workers_are_killed_too_often(tmp_path: Path) -> None:
    study = make_study(
        tmp_path,
        budget={"trials": 1},
        confirm={"top_k": 0},
        recovery={"retries": 1, "heartbeat_s": 0.5, "silence_s": 5.0},
    )
    opened = open_synthetic(study)
    for _ in range(2):
        worker = start_worker(study, seconds=60)
        wait_for(lambda pid=worker.pid: pid in running(opened), what="a running trial")
        os.killpg(worker.pid, signal.SIGKILL)
        finish([worker])
    finish([start_worker(study, seconds=60)])
    standing = opened.search.stand(search_slots(opened.plan))
    assert [slot.key for slot in standing.given_up] == ["0000"]
    assert standing.is_over
    assert len(opened.search.trials()) == 2


def test_postgresql_carries_a_study_through_a_kill(tmp_path: Path) -> None:
    with running_postgres() as url:
        storage = url.replace("postgresql+psycopg://", "postgresql://")
        study = make_study(tmp_path)
        opened = open_synthetic(study, storage=storage)
        workers = [start_worker(study, seconds=0.6, storage=storage) for _ in range(3)]
        wait_for(lambda: workers[0].pid in running(opened), what="a running trial")
        os.kill(workers[0].pid, signal.SIGKILL)
        outputs = finish(workers)
        assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 0, 0], outputs
        assert_exact(opened)
        assert sum(is_lost(trial) for trial in opened.search.trials()) == 1
        opened.storage._backend.engine.dispose()


def test_a_restart_of_postgresql_costs_no_trial(tmp_path: Path) -> None:
    with postgres_server() as server:
        storage = server.url.replace("postgresql+psycopg://", "postgresql://")
        study = make_study(tmp_path)
        opened = open_synthetic(study, storage=storage)
        workers = [start_worker(study, seconds=0.6, storage=storage) for _ in range(2)]
        wait_for(lambda: len(counted_done(opened)) >= 2, what="two settled trials")
        server.stop()
        time.sleep(3.0)
        assert [worker.poll() for worker in workers] == [None, None]
        server.start()
        outputs = finish(workers)
        assert [worker.returncode for worker in workers] == [0, 0], outputs
        assert_exact(opened)
        assert {trial.state.name for trial in opened.search.trials() if not is_void(trial)} == {"COMPLETE"}
        opened.storage._backend.engine.dispose()


def test_a_worker_of_a_pool_that_is_killed_is_told_of_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("facerec.tuning.pool.sys.stderr", sys.__stderr__)
    study = make_study(tmp_path)
    opened = open_synthetic(study)
    killed: list[int] = []

    def kill_one() -> None:
        wait_for(lambda: len(running(opened)) == 3, what="three running trials")
        killed.append(running(opened)[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    told: list[str] = []
    command = [sys.executable, "-m", "tests.tuning.synthetic", str(study), "0.6", "", ""]
    with Interrupt() as stop:
        run_workers(command, count=3, plan=opened.plan, stop=stop, tell=told.append)
    killer.join()
    assert [line.split(" (process ")[1] for line in told] == [f"{killed[0]}) was killed by SIGKILL; 2 go on"]
    assert progress_of(opened).is_over
    assert_exact(opened)
    assert sum(is_lost(trial) for trial in opened.search.trials()) == 1
