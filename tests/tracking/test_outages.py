"""A store that is dead, hangs, or is locked: the training goes on, and nothing is lost or doubled."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from facerec.patience import limit_patience
from facerec.tracking.delivery import Delivery
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.replay import sync_folder
from facerec.tracking.spool import Spool, spool_files
from facerec.tracking.store import connect

SPOOL = Path("spool")


def copy_store(template_db, uri):
    shutil.copyfile(template_db, uri.removeprefix("sqlite:///"))
    return connect(uri)


def wait_for_end():
    """Wait for the thread of a tracker that has not waited for it."""
    deadline = time.monotonic() + 10
    while any(thread.name == "facerec-tracking" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fail_to_connect(*_, **__):
    raise ConnectionError("the store does not answer")


@contextmanager
def failing_store(monkeypatch):
    """Every write to the store fails inside the block."""
    from mlflow import MlflowClient

    def fail(*_, **__):
        raise ConnectionError("the store is down")

    with monkeypatch.context() as patch:
        for name in ("log_batch", "set_tag", "set_terminated", "log_artifact"):
            patch.setattr(MlflowClient, name, fail)
        yield
        wait_for_end()


@pytest.fixture
def short_busy_timeout():
    """MLflow waits 20 s for a locked database; here it gives up after a fifth of a second."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def shorten(_connection, _cursor, statement, parameters, _context, _executemany):
        return statement.replace("busy_timeout = 20000", "busy_timeout = 200"), parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


@pytest.fixture
def silent_server(clean_environment, monkeypatch):
    """The address of a listener that accepts connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def accept():
        try:
            while True:
                accepted.append(listener.accept()[0])
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in accepted:
        connection.close()
    thread.join(5)


@pytest.fixture
def dead_server(clean_environment, monkeypatch):
    """The address of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_logging_takes_microseconds_while_the_store_hangs(silent_server, describe, monkeypatch):
    monkeypatch.setattr("facerec.tracking.mlflow_tracker.fail_fast", lambda: limit_patience(retries=0, timeout_s=1))
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05, finish_within_s=1.0)
    start = time.monotonic()
    tracker.start(describe())
    assert time.monotonic() - start < 10
    durations = []
    for step in range(3000):
        before = time.perf_counter()
        tracker.log_metrics({"train/loss": 0.5, "train/lr": 0.1}, step=step)
        durations.append(time.perf_counter() - before)
        if step % 300 == 0:
            time.sleep(0.01)
    assert statistics.median(durations) < 1e-4
    # Not the longest: a busy machine may take the processor away from any step.
    assert sorted(durations)[-10] < 1e-2
    start = time.monotonic()
    tracker.finish("FINISHED")
    assert time.monotonic() - start < 5


def test_a_dead_server_neither_stops_the_start_nor_loses_anything(dead_server, describe, template_db, curve, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.1, finish_within_s=0.5)
    tracker.start(describe(params={"seed": 7}))
    assert tracker.run_id.startswith("pending-")
    for step in range(50):
        tracker.log_metrics({"loss": step / 2}, step=step)
    Path("plot.svg").write_text("picture")
    tracker.log_file(Path("plot.svg"))
    Path("plot.svg").unlink()
    time.sleep(0.5)
    tracker.finish("KILLED", reason="SIGTERM")
    wait_for_end()
    assert sum("does not answer" in record.message for record in caplog.records) == 1
    assert "facerec sync --spool" in caplog.text

    uri = f"sqlite:///{template_db.parent}/sync-target.db"
    client = copy_store(template_db, uri)
    (result,) = sync_folder(SPOOL, tracking_uri=uri)
    assert (result.left, result.problem) == (0, "")
    run = client.get_run(result.run_id)
    assert run.info.status == "KILLED"
    assert run.data.params == {"seed": "7"}
    assert run.data.tags["facerec.status_reason"] == "SIGTERM"
    assert curve(client, result.run_id, "loss") == [(step, step / 2) for step in range(50)]
    assert [item.path for item in client.list_artifacts(result.run_id)] == ["plot.svg"]
    assert run.info.start_time < run.info.end_time
    assert not SPOOL.exists()


def test_a_run_that_is_still_pending_can_be_resumed(dead_server, describe, template_db, curve):
    first = MlflowTracker(spool_dir=SPOOL, finish_within_s=0.1)
    first.start(describe())
    first.log_metrics({"loss": 1.0}, step=0)
    first.finish("KILLED")
    wait_for_end()
    second = MlflowTracker(spool_dir=SPOOL, finish_within_s=0.1)
    second.start(describe(resume_run_id=first.run_id))
    assert second.run_id == first.run_id
    second.log_metrics({"loss": 0.5}, step=1)
    second.finish("FINISHED")
    wait_for_end()

    uri = f"sqlite:///{template_db.parent}/pending-target.db"
    client = copy_store(template_db, uri)
    results = list(sync_folder(SPOOL, tracking_uri=uri))
    assert len({result.run_id for result in results}) == 1
    assert curve(client, results[0].run_id, "loss") == [(0, 1.0), (1, 0.5)]
    assert client.get_run(results[0].run_id).info.status == "FINISHED"


def test_what_an_earlier_session_left_does_not_undo_the_status_of_a_later_one(store, describe, curve, monkeypatch):
    first = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05, finish_within_s=0.2)
    first.start(describe())
    run_id = first.run_id
    with failing_store(monkeypatch):
        first.log_metrics({"loss": 1.0}, step=0)
        first.finish("KILLED")
    second = MlflowTracker(spool_dir=Path("other"))
    second.start(describe(resume_run_id=run_id))
    second.log_metrics({"loss": 0.5}, step=1)
    second.finish("FINISHED")
    (result,) = sync_folder(SPOOL)
    assert result.left == 0
    assert store.get_run(run_id).info.status == "FINISHED"
    assert curve(store, run_id, "loss") == [(0, 1.0), (1, 0.5)]


def test_what_a_killed_session_left_is_sent_when_the_one_that_goes_on_has_ended_and_doubles_no_step(
    store, describe, curve, monkeypatch
):
    first = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05, finish_within_s=0.2)
    first.start(describe())
    run_id = first.run_id
    with failing_store(monkeypatch):
        for step in range(6):
            first.log_metrics({"train/loss": 1.0 / (step + 1), "train/images_per_s": 100.0}, step=step)
        first.finish("KILLED")
    second = MlflowTracker(spool_dir=Path("other"), flush_every_s=0.05)
    second.start(describe(resume_run_id=run_id))
    second.log_metrics({"train/loss": 0.25, "train/images_per_s": 60.0}, step=3)
    (result,) = sync_folder(SPOOL)
    assert result.sent == 0
    assert result.left >= 2
    assert f"a later training goes on with run {run_id}" in result.problem
    for step in range(4, 9):
        second.log_metrics({"train/loss": 1.0 / (step + 1), "train/images_per_s": 60.0}, step=step)
    second.finish("FINISHED")
    (result,) = sync_folder(SPOOL)
    assert result.left == 0
    assert curve(store, run_id, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(9)]
    speeds = [100.0] * 3 + [60.0] * 6
    assert curve(store, run_id, "train/images_per_s") == list(enumerate(speeds))
    assert store.get_run(run_id).info.status == "FINISHED"


def test_a_resumed_run_whose_store_comes_back_late_doubles_no_step(store, describe, curve, monkeypatch):
    first = MlflowTracker(spool_dir=SPOOL)
    first.start(describe())
    run_id = first.run_id
    for step in range(5):
        first.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    first.finish("KILLED")
    second = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "get_run", fail_to_connect)
        second.start(describe(resume_run_id=run_id))
        for step in range(2, 8):
            second.log_metrics({"train/loss": 0.125}, step=step)
        time.sleep(0.2)
    second.finish("FINISHED")
    assert curve(store, run_id, "train/loss") == [
        *((step, 1.0 / (step + 1)) for step in range(5)),
        *((step, 0.125) for step in range(5, 8)),
    ]


def test_a_training_shows_that_it_lives_while_its_files_fail(store, describe, monkeypatch):
    has_failed = threading.Event()

    def no_upload(*_, **__):
        has_failed.set()
        raise ConnectionError("the bucket does not answer")

    def wait_for_heartbeat():
        deadline = time.monotonic() + 10
        while "facerec.heartbeat" not in store.get_run(tracker.run_id).data.tags:
            assert time.monotonic() < deadline, "no heartbeat came"
            time.sleep(0.02)

    monkeypatch.setattr("facerec.tracking.mlflow_tracker._HEARTBEAT_S", 0.05)
    monkeypatch.setattr(type(store), "log_artifact", no_upload)
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.02, finish_within_s=0.2)
    tracker.start(describe())
    wait_for_heartbeat()
    Path("plot.svg").write_text("picture")
    tracker.log_file(Path("plot.svg"))
    assert has_failed.wait(10)
    store.delete_tag(tracker.run_id, "facerec.heartbeat")
    wait_for_heartbeat()
    tracker.finish("FINISHED")
    wait_for_end()
    assert len(spool_files(SPOOL)) == 1, "the file that failed waits"


def test_a_database_that_is_locked_for_a_while_loses_nothing(store, describe, curve, short_busy_timeout, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.1)
    tracker.start(describe())
    other = sqlite3.connect("mlflow.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for step in range(100):
        tracker.log_metrics({"loss": step / 2}, step=step)
    time.sleep(1.0)
    assert curve(store, tracker.run_id, "loss") == []
    assert "database is locked" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    tracker.finish("FINISHED")
    assert curve(store, tracker.run_id, "loss") == [(step, step / 2) for step in range(100)]
    assert store.get_run(tracker.run_id).info.status == "FINISHED"
    assert not SPOOL.exists()


def test_a_store_that_fails_is_left_alone_for_longer_each_time(store, describe, curve, monkeypatch):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.02)
    tracker.start(describe())
    calls = []

    def fail(*_, **__):
        calls.append(time.monotonic())
        raise ConnectionError("the store is down")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "log_batch", fail)
        tracker.log_metrics({"loss": 0.5}, step=0)
        time.sleep(1.5)
        attempts = len(calls)
    tracker.finish("FINISHED")
    # At 0.02 s, and after 0.02, 0.04, 0.08, 0.16, 0.32 and 0.64 s more; every 0.02 s it would be 75 times.
    assert 2 <= attempts <= 8
    assert curve(store, tracker.run_id, "loss") == [(0, 0.5)]


@pytest.mark.parametrize("arrives", [True, False])
def test_an_answer_that_is_lost_doubles_nothing_even_in_a_store_that_keeps_doubles(
    store, describe, curve, monkeypatch, arrives
):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    sent = []
    real = type(store).log_batch

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        sent.append([metric.step for metric in metrics])
        is_first = len(sent) == 1
        if arrives or not is_first:
            real(self, run_id, metrics=metrics, params=params, tags=tags)
        if is_first:
            raise TimeoutError("no answer")

    monkeypatch.setattr(type(store), "log_batch", log_batch)
    for step in range(3):
        tracker.log_metrics({"loss": 0.5}, step=step)
    tracker.finish("FINISHED")
    assert [steps for steps in sent if steps] == ([[0, 1, 2]] if arrives else [[0, 1, 2]] * 2)
    assert curve(store, tracker.run_id, "loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]


def test_a_creation_whose_answer_is_lost_makes_one_run(store, describe, monkeypatch):
    real = type(store).create_run
    calls = []

    def create_run(self, *args, **kwargs):
        calls.append(real(self, *args, **kwargs).info.run_id)
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(store), "create_run", create_run)
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    assert tracker.run_id.startswith("pending-")
    tracker.finish("FINISHED")
    assert [tracker.run_id] == calls
    assert store.get_run(tracker.run_id).info.status == "FINISHED"


def test_an_artifact_store_that_fails_does_not_hold_up_the_curves(store, describe, curve, monkeypatch):
    def no_upload(*_, **__):
        raise ConnectionError("the bucket does not answer")

    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05, finish_within_s=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "log_artifact", no_upload)
        tracker.start(describe())
        Path("plot.svg").write_text("picture")
        tracker.log_file(Path("plot.svg"))
        tracker.log_metrics({"loss": 0.5}, step=0)
        tracker.finish("FINISHED")
        wait_for_end()
    assert curve(store, tracker.run_id, "loss") == [(0, 0.5)]
    assert store.get_run(tracker.run_id).info.status == "FINISHED"
    (result,) = sync_folder(SPOOL)
    assert (result.sent, result.left) == (1, 0)
    assert [item.path for item in store.list_artifacts(tracker.run_id)] == ["plot.svg"]


def test_what_the_store_refuses_is_kept_and_holds_up_nothing_else(store, describe, curve, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    tracker._buffer.add_event("metrics", {"points": [["not@allowed", 1.0, 0, 0]]})
    tracker.log_metrics({"loss": 0.5}, step=0)
    start = time.monotonic()
    tracker.finish("FINISHED")
    assert time.monotonic() - start < 10
    assert "refuses metrics" in caplog.text
    assert store.get_run(tracker.run_id).info.status == "FINISHED"
    assert curve(store, tracker.run_id, "loss") == [(0, 0.5)]
    (result,) = sync_folder(SPOOL)
    assert (result.sent, result.left) == (0, 1)
    assert "not@allowed" in result.problem


def test_a_run_that_was_deleted_while_it_runs_is_told_once_and_its_records_stay(store, describe, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.02)
    tracker.start(describe())
    store.delete_run(tracker.run_id)
    for step in range(5):
        tracker.log_metrics({"loss": 0.5}, step=step)
        time.sleep(0.05)
    tracker.finish("FINISHED")
    assert sum("refuses" in record.message for record in caplog.records) == 1
    store.restore_run(tracker.run_id)
    (result,) = sync_folder(SPOOL)
    assert result.left == 0
    assert len(store.get_metric_history(tracker.run_id, "loss")) == 5


def test_a_file_that_vanished_before_its_upload_is_told_and_given_up(store, describe, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    tracker._buffer.add_event("artifact", {"path": "/nowhere/weights.bin", "folder": ""})
    tracker.finish("FINISHED")
    assert "/nowhere/weights.bin was removed before it was uploaded" in caplog.text
    assert not SPOOL.exists()


def test_an_interrupted_replay_goes_on_where_it_was(store, describe, curve, monkeypatch):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05, finish_within_s=0.2)
    tracker.start(describe())
    run_id = tracker.run_id
    with failing_store(monkeypatch):
        for step in range(4):
            tracker.log_metrics({"loss": 0.5}, step=step)
            tracker.set_tags({f"tag{step}": "x"})
        tracker.finish("FINISHED")
    (path,) = spool_files(SPOOL)
    spool = Spool.reopen(path)
    total = len(spool.waiting)
    delivery = Delivery(spool, tracking_uri=spool.header["tracking_uri"], is_later=True)
    limit = iter([False, False, False, True])
    assert delivery.attempt(is_over=lambda: next(limit)) is None
    assert len(spool.waiting) == total - 3
    spool.release()
    (result,) = sync_folder(SPOOL)
    assert (result.sent, result.left) == (total - 3, 0)
    assert curve(store, run_id, "loss") == [(step, 0.5) for step in range(4)]


def test_sync_leaves_running_trainings_and_foreign_files_alone(store, describe):
    tracker = MlflowTracker(spool_dir=SPOOL)
    tracker.start(describe())
    (SPOOL / "notes.jsonl").write_text("{}")
    problems = [result.problem for result in sync_folder(SPOOL)]
    tracker.finish("FINISHED")
    assert problems[0] == "a running training still uses it"
    assert "is no spool file" in problems[1]
    assert (SPOOL / "notes.jsonl").exists()


def test_settings_of_the_user_for_patience_stay(dead_server, describe, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    tracker = MlflowTracker(spool_dir=SPOOL, finish_within_s=0.1)
    tracker.start(describe())
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    tracker.finish("FAILED")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
