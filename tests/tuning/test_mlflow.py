"""A study in MLflow: one run for the study, one under it for each trial, each with its true status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.tuning.test_training import write_base, write_study

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def tune(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_RUN")}
    return subprocess.run(
        [sys.executable, "-m", "facerec", "tune", *options],
        cwd=folder,
        env={
            **environment,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_two_workers_leave_one_study_run_with_a_child_for_each_trial(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    settings = yaml.safe_load(base.read_text())
    settings["logging"]["mlflow"] = True
    base.write_text(yaml.safe_dump(settings))
    study = write_study(
        tmp_path,
        space={"training.lr": {"float": [0.05, 1e12], "log": True}, "head.margin": {"float": [0.0, 0.5]}},
        set={"training.grad_clip_norm": 0.0},
        seeds=[{"training.lr": 1e12}, {"training.lr": 0.06}],
        confirm={"top_k": 0},
    )
    done = tune(tmp_path, "--study", str(study), "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["counts"]["complete"], result["counts"]["failed"]) == (2, 1)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "facerec"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["facerec.kind"] == "study"]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    statuses = sorted((run.info.run_name, run.info.status) for run in children)
    assert statuses == [("trial 0000", "FINISHED"), ("trial 0001", "FAILED"), ("trial 0002", "FINISHED")]
    (failed,) = [run for run in children if run.info.status == "FAILED"]
    assert "not finite" in failed.data.tags["facerec.status_reason"]
    assert failed.data.params["training.lr"] == "1000000000000.0"
    finished = next(run for run in children if run.info.run_name == "trial 0000")
    assert len(client.get_metric_history(finished.info.run_id, "eval/tune/auc")) == 2
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["facerec.verdict"] == result["sentence"]
    kept = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"trials.csv", "report.md", "report.json", "best.yaml", "pictures"} <= kept
    assert not client.list_artifacts(finished.info.run_id, "checkpoints")

    shown = tune(tmp_path, "show", str(study), "--json")
    assert json.loads(shown.stdout) == result
    exported = tune(tmp_path, "export", str(study), "out.yaml")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "out.yaml").read_text().splitlines()[-1] == (
        tmp_path / "tuning" / "tiny" / "best.yaml"
    ).read_text().splitlines()[-1]
