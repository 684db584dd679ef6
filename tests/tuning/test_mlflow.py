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
from mlflow.entities import Run
from optuna.pruners import ThresholdPruner

from facerec.tracking.study import StudyRun
from facerec.tracking.sweep import find_stale_runs
from facerec.training.run_folder import latest_run
from facerec.training.tracker import RunDescription
from facerec.tuning.history import read_history, recorded_run
from facerec.tuning.locate import find_study
from facerec.tuning.plan import load_study
from facerec.tuning.run import run_study
from tests.tuning.test_training import write_base, write_study

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def record_in_mlflow(base: Path) -> None:
    settings = yaml.safe_load(base.read_text())
    settings["logging"]["mlflow"] = True
    base.write_text(yaml.safe_dump(settings))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    record_in_mlflow(write_base(tmp_path))
    return tmp_path


def runs_by_name(folder: Path) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments)
    names = [run.info.run_name or "" for run in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


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
    record_in_mlflow(write_base(tmp_path))
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


def test_pruned_refused_and_confirming_trials_are_runs_with_their_status(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prunes whatever may be pruned: no AUC is above 2.
    monkeypatch.setattr("facerec.tuning.study.build_pruner", lambda settings, *, epochs: ThresholdPruner(lower=2.0))
    study = write_study(
        place,
        space={"model.embedding_size": {"choice": [16, 32, 256]}},
        sampler={"name": "grid"},
        pruner={"name": "median"},
        constraints={"parameters": 1.4e6},
        budget={"trials": 3},
    )
    plan = load_study(study)
    run_study(plan, tracker=StudyRun(plan.base), tell=print)
    runs = runs_by_name(place)
    parent = runs.pop("tiny")
    assert {name: run.info.status for name, run in runs.items()} == {
        "trial 0000": "FINISHED",
        "trial 0001": "KILLED",
        "trial 0002": "KILLED",
        "confirmation 0000-seed43": "FINISHED",
        "confirmation 0000-seed44": "FINISHED",
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert "given up after epoch 1" in runs["trial 0001"].data.tags["facerec.status_reason"]
    refused = runs["trial 0002"]
    assert "is above 1.4e+06" in refused.data.tags["facerec.status_reason"]
    assert refused.data.params["model.embedding_size"] == "256"
    assert refused.data.tags["facerec.kind"] == "trial"
    assert runs["confirmation 0000-seed43"].data.params["seed"] == "43"
    assert runs["confirmation 0000-seed43"].data.tags["facerec.kind"] == "confirmation"


def test_a_run_that_is_left_stays_open_and_has_no_owner_to_miss(place: Path) -> None:
    plan = load_study(write_study(place))
    first, second = StudyRun(plan.base), StudyRun(plan.base)
    first.open(name="tiny", params={}, tags={}, run_id=None)
    second.open(name="tiny", params={}, tags={}, run_id=first.run_id)
    second.leave()
    (run,) = runs_by_name(place).values()
    assert run.info.status == "RUNNING"
    assert run.data.tags["facerec.pid"] == ""
    assert find_stale_runs(MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")) == []
    first.finish("FINISHED")
    assert runs_by_name(place)["tiny"].info.status == "FINISHED"


def test_the_run_of_a_lost_trial_is_closed_unless_it_has_ended(place: Path) -> None:
    plan = load_study(write_study(place))
    study = StudyRun(plan.base)
    ids: list[str] = []
    trackers = [
        study.trial(name=name, tags={}, keeps_pictures=False, on_start=ids.append) for name in ("lost", "ended")
    ]
    for tracker, name in zip(trackers, ("lost", "ended"), strict=True):
        tracker.start(RunDescription(name=name, experiment="facerec", params={}, tags={}))
    trackers[1].finish("FINISHED")
    for run_id in (*ids, "pending-nobody"):
        study.close_lost(run_id, reason="its worker is gone")
    runs = runs_by_name(place)
    assert runs["lost"].info.status == "FAILED"
    assert runs["lost"].data.tags["facerec.status_reason"] == "its worker is gone"
    assert runs["ended"].info.status == "FINISHED"
    assert "facerec.status_reason" not in runs["ended"].data.tags
    trackers[0].finish("FAILED")


def test_trials_of_several_processes_are_found_again_and_have_the_reported_metrics(place: Path) -> None:
    study = write_study(
        place,
        nproc=2,
        set={"data.batch_size": 8},
        budget={"trials": 1},
        report={"bin_file": "report.bin"},
    )
    plan = load_study(study)
    report = run_study(plan, tracker=StudyRun(plan.base), tell=print)
    runs = runs_by_name(place)
    opened = find_study(str(study))
    for table, kind in ((opened.search, "trial"), (opened.confirmation, "confirmation")):
        for trial in table.trials():
            run = runs[f"{kind} {trial.user_attrs['facerec.slot']}"]
            assert trial.user_attrs["facerec.run_id"] == run.info.run_id
    for one in report.candidates:
        for seed, value in one.by_seed.items():
            name = f"{one.number:04d}-seed{seed}"
            folder = latest_run(plan.folder / "confirm" / name)
            assert recorded_run(folder) in (runs[f"confirmation {name}"].info.run_id, None)
            assert runs[f"confirmation {name}"].data.metrics["eval/report/auc"] == value
            assert len(read_history(folder)) == 2
