"""An evaluation under `mlflow run` leaves its metrics and files in that run, and elsewhere touches no store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facerec.evaluation.run import run_on_embeddings
from facerec.evaluation.template_files import read_templates
from facerec.evaluation.template_run import run_on_templates
from facerec.tracking.evaluation import record_evaluation, record_templates
from tests.evaluation.test_templates import write_simple
from tests.serving.models import write_checkpoint


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


def test_the_rates_of_templates_have_the_names_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facerec.tracking.store import connect

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = connect(uri)
    opened = client.create_run(client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri()))
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    folder = write_simple(tmp_path / "mine")
    checkpoint = write_checkpoint(tmp_path / "step-00000001")
    run = run_on_templates(folder, checkpoint=checkpoint, output=tmp_path / "out", device="cpu")
    assert record_templates(run, subject=str(checkpoint), spool_dir=tmp_path / "spool")
    found = client.get_run(opened.info.run_id)
    verified, searched = run.results["mine"]["verification"], run.results["mine"]["identification"]
    names = ("auc", "eer", "tar_at_far_1e-3", "threshold_at_far_1e-1")
    expected = {f"eval/mine/{name}": verified[name] for name in names}
    expected |= {f"eval/mine/rank_{k}": searched["closed_set"]["gallery"][f"rank_{k}"] for k in (1, 5, 10)}
    expected["eval/mine/fnir_at_fpir_1e-1"] = searched["open_set"]["1e-1"]["fnir"]
    assert {name: found.data.metrics[name] for name in expected} == expected
    assert found.data.tags["facerec.far_bounds"] == "mine: 1e-6, 1e-5, 1e-4, 1e-3, 1e-2"
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("mine", run.templates.digest[:36])
    files = {item.path for item in client.list_artifacts(opened.info.run_id)}
    assert {"report.json", "report.md", "report.html", "pictures"} <= files
    pictures = {item.path for item in client.list_artifacts(opened.info.run_id, "pictures")}
    assert pictures == {"pictures/roc.png", "pictures/cmc.png"}
    # Another question about the same pictures is another set.
    (folder / "pairs.csv").write_text("template_a,template_b,genuine\n0,6,1\n0,1,0\n")
    assert read_templates(folder).digest != run.templates.digest


def test_without_a_run_no_store_is_touched(embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    run = run_on_embeddings(embeddings, output=tmp_path / "out")
    assert not record_evaluation(run, subject="x", spool_dir=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
