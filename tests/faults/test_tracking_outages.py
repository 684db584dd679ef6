"""A tracking store or a `facerec train` that fails: every point arrives, and arrives once (promises K1, K2)."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.faults.test_kill import REPOSITORY, make_job, newest_step
from tests.packs import write_pack
from tests.tracking.conftest import clean_environment, template_db
from tests.tracking.test_server import Server

__all__ = ["clean_environment", "template_db"]

pytestmark = pytest.mark.slow

LOCKED_S = 60.0


class Relay:
    """Stands between a training and its tracking server, and fails as it is told.

    ``mode`` is ``pass``; ``refuse``, which answers 500 unasked; ``lose``, which lets the server do what it is asked
    and answers 500; or ``hang``, which never answers.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.failed = 0
        self._port = port
        self._end = threading.Event()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                relay.answer(self, body)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                """Requests are nothing to tell."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        mode = self.mode
        self.failed += mode != "pass"
        if mode == "hang":
            self._end.wait()
            request.close_connection = True
            return
        if mode in ("pass", "lose"):
            status, kind, content = self._forward(request, body)
        if mode in ("refuse", "lose"):
            status, kind, content = 500, "text/plain", b"the server is not itself"
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheader("Content-Type", "text/plain"), content

    def close(self) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Training:
    """A process of `facerec train` that would go on for hours; an epoch has ``pictures`` steps."""

    def __init__(self, folder: Path, *, tracking_uri: str, pictures: int = 20, every_steps: int = 2) -> None:
        pack = write_pack(folder / "pack", identities=16, pictures=pictures)
        self.job = make_job(folder, pack)
        text = self.job.config.read_text()
        for old, new in (
            ("epochs: 2", "epochs: 4000"),
            ("mlflow: false", "mlflow: true"),
            ("every_steps: 2", f"every_steps: {every_steps}"),
        ):
            assert old in text
            text = text.replace(old, new)
        self.job.config.write_text(text)
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            "MLFLOW_TRACKING_URI": tracking_uri,
        }
        self._errors = folder / "errors.txt"
        self.start()

    def start(self, *options: str) -> None:
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "facerec", "train", "--config", str(self.job.config), *options],
                cwd=self.job.config.parent,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def told(self) -> str:
        return self._errors.read_text(errors="replace")

    @property
    def step(self) -> int:
        return newest_step(self.job.save_dir)

    @property
    def spooled(self) -> int:
        """The last step that its spool holds."""
        path = max(self.job.config.parent.glob("facerec-spool/*.jsonl"))
        complete, _, _ = path.read_text().rpartition("\n")
        bodies = [json.loads(line).get("body", {}) for line in complete.splitlines()]
        return max((point[2] for body in bodies for point in body.get("points", [])), default=-1)

    def reach(self, step: int) -> None:
        self.wait(lambda: self.step >= step)

    def wait(self, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_there():
            assert self._process.poll() is None, self.told
            assert time.monotonic() < deadline, f"what the test waits for never came\n{self.told}"
            time.sleep(0.02)

    def kill_when(self, is_time: Callable[[], bool]) -> None:
        """Kill it at a moment at which it stands still and something holds."""

        def strike() -> bool:
            os.killpg(self._process.pid, signal.SIGSTOP)
            if is_time():
                self.kill()
                return True
            os.killpg(self._process.pid, signal.SIGCONT)
            time.sleep(0.1)
            return False

        deadline = time.monotonic() + 120
        while not strike():
            assert self._process.poll() is None, self.told
            assert time.monotonic() < deadline, f"the moment to kill it never came\n{self.told}"

    def stop(self) -> float:
        """Ask it to stop; the seconds that it took."""
        started = time.monotonic()
        os.killpg(self._process.pid, signal.SIGTERM)
        code = self._process.wait(timeout=120)
        assert code == 128 + signal.SIGTERM, self.told
        assert "Traceback" not in self.told
        return time.monotonic() - started

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def sync(self) -> None:
        run = subprocess.run(
            [sys.executable, "-m", "facerec", "sync"],
            cwd=self.job.config.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def check_complete(client: MlflowClient, training: Training) -> None:
    """The one run holds every step of the training once, and says how it ended."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    (folder,) = training.job.save_dir.iterdir()
    last = json.loads((folder / "last" / "state.json").read_text())["global_step"]
    for key in ("train/loss", "train/lr", "train/images_per_s"):
        steps = sorted(metric.step for metric in client.get_metric_history(run.info.run_id, key))
        assert steps == list(range(1, last + 1)), key
    assert run.info.status == "KILLED"
    assert "SIGTERM" in run.data.tags["facerec.status_reason"]
    names = [item.path for item in client.list_artifacts(run.info.run_id)]
    assert "train.log" in names
    spool = training.job.config.parent / "facerec-spool"
    assert not spool.exists(), list(spool.iterdir())


def newest_point(client: MlflowClient) -> int:
    """The last step whose loss the store holds."""
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return max((metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")), default=-1)


@pytest.fixture
def server(clean_environment: Path, template_db: Path) -> Iterator[Server]:
    (clean_environment / "server.db").write_bytes(template_db.read_bytes())
    server = Server(clean_environment)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def relay(server: Server) -> Iterator[tuple[Relay, MlflowClient]]:
    relay = Relay(server.port)
    yield relay, MlflowClient(server.uri)
    relay.close()


def test_a_server_that_is_killed_and_started_again_has_everything_once_at_the_end(
    server: Server, tmp_path: Path
) -> None:
    training = Training(tmp_path, tracking_uri=server.uri)
    try:
        training.reach(20)
        server.kill()
        struck_at = training.step
        training.wait(lambda: "does not answer" in training.told)
        training.reach(struck_at + 40)
        server.start()
        training.reach(training.step + 20)
        training.stop()
    finally:
        training.kill()
    assert len(re.findall("does not answer", training.told)) == 1
    check_complete(MlflowClient(server.uri), training)


@pytest.mark.parametrize("is_synced_first", [True, False])
def test_a_training_that_is_killed_and_goes_on_has_every_step_once(
    relay: tuple[Relay, MlflowClient], tmp_path: Path, is_synced_first: bool
) -> None:
    between, client = relay
    epoch = 100
    # Checkpoints at the ends of epochs alone, as by default.
    training = Training(tmp_path, tracking_uri=between.uri, pictures=epoch, every_steps=0)
    try:
        training.reach(epoch)
        training.kill_when(lambda: newest_point(client) > training.step)
        if is_synced_first:
            training.sync()
        training.start("--resume")
        training.reach(training.step + epoch)
        between.mode = "refuse"
        in_store = newest_point(client)
        training.kill_when(lambda: training.spooled > max(training.step, in_store))
        between.mode = "pass"
        if is_synced_first:
            training.sync()
        training.start("--resume")
        training.reach(training.step + epoch)
        training.stop()
    finally:
        training.kill()
    training.sync()
    check_complete(client, training)


@pytest.mark.parametrize("mode", ["refuse", "lose"])
def test_a_server_that_answers_500_for_a_while_has_everything_once_at_the_end(
    relay: tuple[Relay, MlflowClient], tmp_path: Path, mode: str
) -> None:
    between, client = relay
    training = Training(tmp_path, tracking_uri=between.uri)
    try:
        training.reach(20)
        between.mode = mode
        training.wait(lambda: between.failed >= 2)
        struck_at = training.step
        training.reach(struck_at + 40)
        between.mode = "pass"
        training.reach(struck_at + 60)
        training.stop()
    finally:
        training.kill()
    assert len(re.findall("does not answer", training.told)) == 1
    check_complete(client, training)


def test_a_server_that_hangs_holds_up_no_step_and_is_told_everything_later(
    relay: tuple[Relay, MlflowClient], tmp_path: Path
) -> None:
    between, client = relay
    training = Training(tmp_path, tracking_uri=between.uri)
    try:
        training.reach(20)
        between.mode = "hang"
        training.wait(lambda: between.failed > 0)
        training.reach(training.step + 40)
        # 30 s for the store, and what a busy machine needs beside.
        assert training.stop() < 60
    finally:
        training.kill()
    assert "facerec sync --spool" in training.told
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "RUNNING"
    between.mode = "pass"
    training.sync()
    check_complete(client, training)


def test_a_database_that_is_locked_for_a_minute_has_everything_once_at_the_end(
    clean_environment: Path, template_db: Path, tmp_path: Path
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(template_db.read_bytes())
    uri = f"sqlite:///{database}"
    training = Training(tmp_path, tracking_uri=uri)
    try:
        training.reach(20)
        other = sqlite3.connect(database, isolation_level=None, timeout=60)
        other.execute("BEGIN EXCLUSIVE")
        locked_at = training.step
        time.sleep(LOCKED_S)
        during = training.step - locked_at
        other.execute("ROLLBACK")
        other.close()
        training.reach(training.step + 20)
        training.stop()
    finally:
        training.kill()
    # A minute is thousands of steps here; a training that waited for the store would have done next to none.
    assert during > 40
    assert "database is locked" in training.told
    check_complete(MlflowClient(uri), training)
