"""Several processes on one store, and processes that are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.process import identity_tags, is_gone
from facerec.tracking.spool import spool_files
from facerec.tracking.sweep import close_stale_run, find_stale_runs
from tests.faults.test_kill import make_job
from tests.packs import write_pack

# Not sys.path: a test that loads a served model adds that model's own copy of the package to it.
REPOSITORY = Path(__file__).resolve().parents[2]

_TRAIN = """
import sys, time
from pathlib import Path
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.training.tracker import RunDescription

def train(name, end="finish"):
    tracker = MlflowTracker(spool_dir=Path("spool"), flush_every_s=0.1, finish_within_s=60)
    tracker.start(RunDescription(name=name, experiment="faces", params={"seed": 7}, tags={}))
    for step in range(20):
        tracker.log_metrics({"loss": step / 2}, step=step)
    if end == "hang":
        print(tracker.run_id, flush=True)
        time.sleep(60)
    tracker.finish("FINISHED")
    print(tracker.run_id, flush=True)
"""
_ONE = f"{_TRAIN}train('killed', 'hang')"
# Forked after the slow import, so that all four reach the empty store at the same moment.
_FOUR = f"""{_TRAIN}
import multiprocessing
import mlflow.store.tracking.sqlalchemy_store
fork = multiprocessing.get_context("fork")
trainings = [fork.Process(target=train, args=(f"run{{index}}",)) for index in range(4)]
for training in trainings:
    training.start()
for training in trainings:
    training.join()
sys.exit(sum(training.exitcode != 0 for training in trainings))
"""


def start_script(script, *, folder, **streams):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, **streams
    )


@pytest.mark.slow
def test_four_processes_may_start_on_an_empty_store(clean_environment, curve, monkeypatch):
    from facerec.tracking.store import connect

    uri = f"sqlite:///{clean_environment}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    script = start_script(_FOUR, folder=clean_environment, stderr=subprocess.PIPE)
    output, complaints = script.communicate(timeout=200)
    run_ids = output.split()
    assert script.returncode == 0
    assert "does not answer" not in complaints
    client = connect(uri)
    assert len(set(run_ids)) == 4
    assert len(client.search_experiments(filter_string="name = 'faces'")) == 1
    for run_id in run_ids:
        assert client.get_run(run_id).info.status == "FINISHED"
        assert curve(client, run_id, "loss") == [(step, step / 2) for step in range(20)]
    assert not (clean_environment / "spool").exists()


@pytest.mark.slow
def test_four_trainings_may_start_in_an_empty_folder(clean_environment, curve, monkeypatch):
    from facerec.tracking.store import connect

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    job = make_job(clean_environment, write_pack(clean_environment / "pack", identities=16, pictures=4))
    job.config.write_text(job.config.read_text().replace("mlflow: false", "mlflow: true"))
    trainings = [job.start() for _ in range(4)]
    for training in trainings:
        _, complaints = training.communicate(timeout=300)
        assert training.returncode == 0, complaints
        assert "does not answer" not in complaints
    client = connect(f"sqlite:///{clean_environment}/mlflow.db")
    experiments = [one for one in client.search_experiments() if one.name != "Default"]
    assert len(experiments) == 1
    runs = client.search_runs([experiments[0].experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert len({run.data.tags["facerec.run_folder"] for run in runs}) == len(list(job.save_dir.iterdir())) == 4
    for run in runs:
        assert [step for step, _ in curve(client, run.info.run_id, "train/loss")] == list(range(1, 9))
    assert not (clean_environment / "facerec-spool").exists()


def test_a_killed_training_is_swept_and_a_living_one_is_not(store, describe, clean_environment, curve):
    living = MlflowTracker(spool_dir=clean_environment / "living")
    living.start(describe())
    training = start_script(_ONE, folder=clean_environment)
    run_id = training.stdout.readline().strip()
    deadline = time.monotonic() + 20
    while len(curve(store, run_id, "loss")) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    training.send_signal(signal.SIGKILL)
    training.wait()
    training.stdout.close()
    (stale,) = find_stale_runs(store)
    assert (stale.run_id, stale.name, stale.pid) == (run_id, "killed", training.pid)
    close_stale_run(store, stale)
    run = store.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["facerec.status_reason"] == f"its process {training.pid} is gone"
    assert run.info.end_time == stale.last_sign_ms
    assert find_stale_runs(store) == []
    assert store.get_run(living.run_id).info.status == "RUNNING"
    assert len(spool_files(clean_environment / "spool")) == 1, "its spool waits for `facerec sync`"
    living.finish("FINISHED")


def test_this_process_is_not_gone_and_others_are_not_judged():
    tags = identity_tags()
    assert not is_gone(tags)
    assert not is_gone({**tags, "facerec.host": "elsewhere", "facerec.pid": "1"})
    assert not is_gone({})
    assert not is_gone({**tags, "facerec.pid": "none"})


def test_a_process_number_that_another_process_has_now_does_not_keep_a_run_alive():
    tags = identity_tags()
    earlier = psutil.Process().create_time() - 3600
    assert is_gone({**tags, "facerec.process_started": f"{earlier:.2f}"})


def test_a_process_number_that_nobody_has_is_gone():
    free = next(number for number in range(300_000, 10_000, -1) if not psutil.pid_exists(number))
    assert is_gone({**identity_tags(), "facerec.pid": str(free)})


@pytest.mark.parametrize(("silence", "gone"), [(timedelta(minutes=2), False), (timedelta(minutes=11), True)])
def test_a_process_in_another_container_is_judged_by_its_heartbeat(silence, gone):
    heartbeat = (datetime.now(UTC) - silence).isoformat()
    tags = {**identity_tags(), "facerec.pid_namespace": "pid:[1]", "facerec.heartbeat": heartbeat}
    assert is_gone(tags) is gone
