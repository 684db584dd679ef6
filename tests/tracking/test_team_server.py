"""The tracking server of a team: PostgreSQL for the runs, an S3-compatible store for the files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.replay import sync_folder
from tests.postgres import free_port, running_postgres

pytestmark = pytest.mark.slow

_BUCKET = "faces"


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 emulator with one bucket; the variables that a server needs to reach it are set."""
    pytest.importorskip("moto", reason="moto, the S3 emulator, is not installed: the extra `dev` brings it")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: the extra `s3` brings it")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=_BUCKET)
    try:
        yield endpoint
    finally:
        server.stop()


@contextmanager
def tracking_server(database: str, folder: Path) -> Iterator[str]:
    """The command of docs/tracking.md."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", database, "--artifacts-destination", f"s3://{_BUCKET}/mlflow"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PATH": path}
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=2):
                    break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_runs_lie_in_postgresql_and_files_in_the_object_store(
    clean_environment: Path, describe, curve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    weights = clean_environment / "step-00000300"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(os.urandom(3_000_000))
    with running_postgres() as database, object_store(monkeypatch) as endpoint:
        with tracking_server(database, clean_environment) as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            tracker = MlflowTracker(spool_dir=Path("spool"), flush_every_s=0.2, finish_within_s=60)
            tracker.start(describe(params={"training.lr": 0.1}))
            for step in range(300):
                tracker.log_metrics({"train/loss": step / 3}, step=step)
            tracker.log_file(weights, folder="checkpoints/best")
            tracker.finish("FINISHED")
            assert list(sync_folder(Path("spool"))) == []

            client = MlflowClient(uri)
            run = client.get_run(tracker.run_id)
            assert run.info.status == "FINISHED"
            assert curve(client, tracker.run_id, "train/loss") == [(step, step / 3) for step in range(300)]
            (clean_environment / "fetched").mkdir()
            fetched = Path(client.download_artifacts(tracker.run_id, "checkpoints", str(clean_environment / "fetched")))
            fetched = fetched / "best" / weights.name
            assert (fetched / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
        import boto3
        import psycopg

        listed = boto3.client("s3", endpoint_url=endpoint).list_objects_v2(Bucket=_BUCKET)["Contents"]
        assert any(item["Key"].endswith("model.safetensors") and item["Size"] == 3_000_000 for item in listed)
        with psycopg.connect(database.replace("+psycopg", "")) as connection:
            (points,) = connection.execute("select count(*) from metrics where key = 'train/loss'").fetchone()
        assert points == 300
