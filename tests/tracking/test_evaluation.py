"""An evaluation under `mlflow run` leaves its metrics and files in that run, and elsewhere touches no store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facerec.evaluation.run import run_on_embeddings
from facerec.tracking.evaluation import record_evaluation


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    original = rng.normal(size=(80, 8)).astype(np.float32)
    original[1::4] = original[0::4] + 0.1
    path = tmp_path / "e.npz"
    index = np.arange(80).reshape(-1, 2)
    np.savez(path, original=original, pair_index=index, issame=np.arange(40) % 2 == 0)
    return path


def test_metrics_and_files_are_in_the_run_that_is_open(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    from facerec.tracking.store import connect

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client: MlflowClient = connect(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    opened = client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    run = run_on_embeddings(embeddings, output=tmp_path / "out")
    assert record_evaluation(run, subject=str(embeddings), spool_dir=tmp_path / "spool")
    found = client.get_run(opened.info.run_id)
    assert found.data.metrics[f"eval/{run.results[0].name}/accuracy"] == run.results[0].accuracy
    assert found.info.status == "FINISHED"
    names = {item.path for item in client.list_artifacts(opened.info.run_id)}
    assert {"pictures", "report.json", run.summary.name} <= names


def test_without_a_run_no_store_is_touched(embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    run = run_on_embeddings(embeddings, output=tmp_path / "out")
    assert not record_evaluation(run, subject="x", spool_dir=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
