"""A real MLflow server that dies in the middle of a training."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.replay import sync_folder
from facerec.tracking.sweep import find_stale_runs

SPOOL = Path("spool")
pytestmark = pytest.mark.slow


class Server:
    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process = None

    def start(self):
        folder = self._folder
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "-w", "1"]
        command += [
            "--backend-store-uri",
            f"sqlite:///{folder}/server.db",
            "--artifacts-destination",
            f"{folder}/files",
        ]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PATH": path}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with open(folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError((folder / "server.log").read_text())

    def kill(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(clean_environment, template_db, monkeypatch):
    (clean_environment / "server.db").write_bytes(template_db.read_bytes())
    server = Server(clean_environment)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.kill()


def test_a_server_that_dies_and_comes_back_has_everything_once(server, describe, curve, caplog):
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    back_in_time = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.2, finish_within_s=20)
    too_late = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.2, finish_within_s=0.5)
    trackers = (back_in_time, too_late)
    for tracker in trackers:
        tracker.start(describe(params={"seed": 7}))

    def log(steps):
        for step in steps:
            for tracker in trackers:
                tracker.log_metrics({"loss": step / 3, "lr": 0.1}, step=step)
            time.sleep(0.002)

    log(range(200))
    server.kill()
    log(range(200, 500))
    Path("plot.svg").write_text("picture")
    for tracker in trackers:
        tracker.log_file(Path("plot.svg"), folder="plots")
        tracker.set_tags({"late": "yes"})
    time.sleep(1)
    too_late.finish("FAILED", reason="out of memory")
    server.start()
    back_in_time.finish("FINISHED")
    (result,) = sync_folder(SPOOL)

    assert (result.run_id, result.left) == (too_late.run_id, 0)
    assert list(sync_folder(SPOOL)) == []
    for tracker, status in zip(trackers, ("FINISHED", "FAILED"), strict=True):
        run = client.get_run(tracker.run_id)
        assert run.info.status == status
        assert run.data.tags["late"] == "yes"
        assert curve(client, tracker.run_id, "loss") == [(step, step / 3) for step in range(500)]
        assert curve(client, tracker.run_id, "lr") == [(step, 0.1) for step in range(500)]
        assert [item.path for item in client.list_artifacts(tracker.run_id, "plots")] == ["plots/plot.svg"]
    assert find_stale_runs(client) == []
    assert sum("does not answer" in record.message for record in caplog.records) == 2
