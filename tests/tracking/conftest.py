"""Real stores: local SQLite databases, and what tests of them share."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest

from facerec.tracking.store import connect
from facerec.training.tracker import RunDescription

_MLFLOW_VARIABLES = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "RANK",
)


@pytest.fixture(scope="session")
def template_db(tmp_path_factory) -> Path:
    """An empty store; creating one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("template")
    connect(f"sqlite:///{folder}/mlflow.db")
    # The write-ahead log is merged into the file, so that the file alone is the store.
    import sqlite3

    connection = sqlite3.connect(folder / "mlflow.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return folder / "mlflow.db"


@pytest.fixture
def clean_environment(tmp_path, monkeypatch) -> Path:
    """A working folder of its own and no MLflow variables.

    Its name never comes again: MLflow goes on with the connection to a store that a removed folder of pytest held.
    """
    for name in _MLFLOW_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ, "a tracker left its settings behind"


@pytest.fixture
def store(template_db, clean_environment, monkeypatch):
    """A client of an empty local store, which is also the one that trackers use."""
    database = clean_environment / "mlflow.db"
    shutil.copyfile(template_db, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return connect(f"sqlite:///{database}")


@pytest.fixture
def describe():
    """Builds a run's description; keywords override."""

    def build(**changes) -> RunDescription:
        facts = {"name": "a run", "experiment": "faces", "params": {"seed": 7}, "tags": {"model": "iresnet18"}}
        return RunDescription(**(facts | changes))

    return build


@pytest.fixture
def curve():
    """Reads steps and values of a curve as the store holds them, doubles included."""

    def read(client, run_id: str, key: str) -> list[tuple[int, float]]:
        return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, key))

    return read
