from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from facerec.errors import TrackingError
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.process import is_gone
from facerec.training.tracker import DatasetDescription, ModelDescription

SPOOL = Path("spool")


def track(run, *, steps=(), status="FINISHED", **options):
    """Track one run to its end; returns its identity."""
    tracker = MlflowTracker(spool_dir=SPOOL, **options)
    tracker.start(run)
    for step in steps:
        tracker.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    tracker.finish(status)
    return tracker.run_id


def artifact_text(run, path):
    return Path(run.info.artifact_uri.removeprefix("file://"), path).read_text()


def test_a_run_is_recorded_with_all_that_belongs_to_it(store, describe, curve):
    dataset = DatasetDescription(
        name="orl", digest="ab" * 32, context="train", source="data/orl", facts={"images": 300, "identities": 30}
    )
    params = {"seed": 7, "training.lr": 0.1, "long": "x" * 7000} | {f"key{index}": index for index in range(150)}
    tracker = MlflowTracker(spool_dir=SPOOL)
    tracker.start(describe(params=params, datasets=(dataset,)))
    run_id = tracker.run_id
    for step in range(1200):
        tracker.log_metrics({"train/loss": 1.0 / (step + 1), "TAR@FAR": float("nan")}, step=step)
    Path("plot.svg").write_text("first")
    tracker.log_file(Path("plot.svg"), folder="plots")
    Path("plot.svg").write_text("second")
    Path("report/inner").mkdir(parents=True)
    Path("report/inner/table.csv").write_text("a,b")
    tracker.log_file(Path("report"))
    tracker.set_tags({"best epoch": "3"})
    tracker.finish("FINISHED", reason="all epochs done")

    run = store.get_run(run_id)
    assert run.info.run_name == "a run"
    assert run.info.status == "FINISHED"
    assert run.info.start_time <= run.info.end_time
    assert run.data.params == {key: str(value)[:6000] for key, value in params.items()}
    assert run.data.tags["model"] == "iresnet18"
    assert run.data.tags["best epoch"] == "3"
    assert run.data.tags["facerec.status_reason"] == "all epochs done"
    assert run.data.tags["facerec.pid"] == str(os.getpid())
    assert "mlflow.note.content" not in run.data.tags
    assert not is_gone(run.data.tags)
    assert curve(store, run_id, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(1200)]
    assert set(run.data.metrics) == {"train/loss"}
    assert artifact_text(run, "plots/plot.svg") == "first"
    assert artifact_text(run, "report/inner/table.csv") == "a,b"
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == "orl"
    assert logged.dataset.digest == ("ab" * 32)[:36]
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "train")]
    assert not SPOOL.exists()


def test_the_experiment_is_made_once_and_marked_as_model_development(store, describe):
    first, second = (track(describe()) for _ in range(2))
    experiment = store.get_experiment_by_name("faces")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert {store.get_run(run).info.experiment_id for run in (first, second)} == {experiment.experiment_id}


def test_the_experiment_that_the_environment_names_counts_more(store, describe, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "chosen")
    run_id = track(describe())
    assert store.get_experiment(store.get_run(run_id).info.experiment_id).name == "chosen"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_status_is_the_one_that_the_training_gives(store, describe, status):
    assert store.get_run(track(describe(), status=status)).info.status == status


def test_a_resumed_run_is_appended_to_and_keeps_its_parameters(store, describe, curve):
    first = track(describe(params={"seed": 7, "epochs": 5}), steps=range(3), status="KILLED")
    started = store.get_run(first).info.start_time
    tracker = MlflowTracker(spool_dir=SPOOL)
    tracker.start(describe(params={"seed": 7, "epochs": 9, "new": 1}, resume_run_id=first))
    assert tracker.run_id == first
    assert store.get_run(first).info.status == "RUNNING"
    for step in range(3, 6):
        tracker.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    tracker.finish("FINISHED")
    run = store.get_run(first)
    assert run.info.status == "FINISHED"
    assert run.info.start_time == started
    assert run.data.params == {"seed": "7", "epochs": "5", "new": "1"}
    assert [step for step, _ in curve(store, first, "train/loss")] == list(range(6))


def test_steps_that_a_resumed_training_does_again_keep_their_first_point(store, describe, curve):
    first = MlflowTracker(spool_dir=SPOOL)
    first.start(describe())
    run_id = first.run_id
    for step in range(5):
        first.log_metrics({"train/loss": 1.0 / (step + 1), "train/images_per_s": 100.0 + step}, step=step)
    first.log_metrics({"train/epoch_loss": 0.5, "eval/lfw/accuracy": 0.75}, step=1)
    first.finish("KILLED")
    second = MlflowTracker(spool_dir=SPOOL)
    second.start(describe(resume_run_id=run_id))
    for step in range(2, 8):
        second.log_metrics({"train/loss": 1.0 / (step + 1) + 1e-9, "train/images_per_s": 50.0}, step=step)
    # The epoch's loss comes out the same; the accuracy, as after a change of the configuration, does not.
    second.log_metrics({"train/epoch_loss": 0.5, "eval/lfw/accuracy": 0.875}, step=1)
    second.finish("FINISHED")
    assert [step for step, _ in curve(store, run_id, "train/loss")] == list(range(8))
    assert curve(store, run_id, "train/loss")[4] == (4, 0.2)
    assert curve(store, run_id, "train/images_per_s") == [
        *((step, 100.0 + step) for step in range(5)),
        *((step, 50.0) for step in range(5, 8)),
    ]
    assert curve(store, run_id, "train/epoch_loss") == [(1, 0.5)]
    assert curve(store, run_id, "eval/lfw/accuracy") == [(1, 0.75), (1, 0.875)]
    assert store.get_run(run_id).data.metrics["eval/lfw/accuracy"] == 0.875


def test_a_run_names_the_fars_that_its_sets_cannot_show(store, describe):
    def dataset(name, **facts):
        return DatasetDescription(name=name, digest="ab" * 32, context="eval", source=name, facts=facts)

    sets = (
        dataset("orl", images=300),
        dataset("lfw", pairs=6000, genuine=3000),
        dataset("small", pairs=80, genuine=40),
        dataset("large", pairs=80000, genuine=40000),
    )
    tags = store.get_run(track(describe(datasets=sets))).data.tags
    assert tags["facerec.far_bounds"] == "lfw: 1e-4; small: 1e-2, 1e-3, 1e-4"
    assert "facerec.far_bounds" not in store.get_run(track(describe(datasets=sets[-1:]))).data.tags


def test_a_resumed_run_reads_each_curve_once(store, describe, monkeypatch):
    run_id = track(describe(), steps=range(3), status="KILLED")
    read = []
    real = type(store).get_metric_history

    def get_metric_history(self, run_id, key):
        read.append(key)
        return real(self, run_id, key)

    monkeypatch.setattr(type(store), "get_metric_history", get_metric_history)
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.02)
    tracker.start(describe(resume_run_id=run_id))
    for step in range(3, 8):
        tracker.log_metrics({"train/loss": 0.5, "train/lr": 0.1}, step=step)
        time.sleep(0.05)
    tracker.finish("FINISHED")
    assert sorted(read) == ["train/loss", "train/lr"]


def test_a_run_to_resume_that_is_gone_becomes_a_new_run_that_names_it(store, describe, caplog):
    deleted = track(describe())
    store.delete_run(deleted)
    for old in (deleted, "0" * 32):
        new = track(describe(resume_run_id=old))
        assert new != old
        assert store.get_run(new).data.tags["facerec.resumed_from"] == old
    assert "no longer in the tracking store" in caplog.text


def prepared_run(store, monkeypatch, **params):
    """What `mlflow run` leaves: a run in another experiment with its own parameters, and MLFLOW_RUN_ID."""
    experiment = store.create_experiment("of mlflow run")
    run = store.create_run(experiment, run_name="bold-owl-123", tags={"mlflow.source.name": "project"})
    for key, value in params.items():
        store.log_param(run.info.run_id, key, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return run.info.run_id


def test_the_run_that_mlflow_run_has_made_is_used_and_its_parameters_stay(store, describe, monkeypatch):
    given = prepared_run(store, monkeypatch, device="''", config="configs/demo.yaml", seed="7")
    run_id = track(describe(params={"device": "cpu", "seed": 7, "training.lr": 0.1}))
    run = store.get_run(run_id)
    assert run_id == given
    assert run.data.params == {
        "device": "''",
        "config": "configs/demo.yaml",
        "seed": "7",
        "training.lr": "0.1",
        "cfg.device": "cpu",
    }
    assert run.info.run_name == "a run"
    assert run.data.tags["mlflow.source.name"] == "project"
    assert store.get_experiment_by_name("faces") is None
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_name_that_somebody_has_given_the_run_stays(store, describe, monkeypatch):
    given = prepared_run(store, monkeypatch)
    store.update_run(given, name="my name")
    track(describe())
    assert store.get_run(given).info.run_name == "my name"


def test_mlflow_run_with_resume_uses_the_new_run_and_names_the_old(store, describe, monkeypatch):
    old = track(describe())
    given = prepared_run(store, monkeypatch)
    assert track(describe(resume_run_id=old)) == given
    assert store.get_run(given).data.tags["facerec.resumed_from"] == old
    assert store.get_run(old).info.status == "FINISHED"


def test_a_run_of_the_environment_that_the_store_does_not_hold_is_refused(store, describe, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError, match="refuses the run"):
        MlflowTracker(spool_dir=SPOOL).start(describe())
    assert not SPOOL.exists()


def test_a_deleted_experiment_is_refused_before_the_training_begins(store, describe):
    store.delete_experiment(store.create_experiment("faces"))
    with pytest.raises(TrackingError, match="refuses the run"):
        MlflowTracker(spool_dir=SPOOL).start(describe())


@pytest.mark.parametrize("uri", ["./mlruns", "nothing://here"])
def test_a_store_that_mlflow_does_not_support_is_refused_before_the_training_begins(
    clean_environment, describe, monkeypatch, uri
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match="refuses the run"):
        MlflowTracker(spool_dir=SPOOL).start(describe())


def test_a_file_that_does_not_exist_is_told_and_ends_nothing(store, describe, caplog):
    tracker = MlflowTracker(spool_dir=SPOOL)
    tracker.start(describe())
    tracker.log_file(Path("missing.png"))
    tracker.finish("FINISHED")
    assert "missing.png does not exist" in caplog.text
    assert store.get_run(tracker.run_id).info.status == "FINISHED"


def test_points_arrive_while_the_training_runs(store, describe, curve):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.1)
    tracker.start(describe())
    tracker.log_metrics({"loss": 0.5}, step=0)
    assert wait_until(lambda: curve(store, tracker.run_id, "loss") == [(0, 0.5)])
    tracker.finish("FINISHED")


def test_500_waiting_points_are_sent_before_their_time(store, describe, curve):
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=60.0)
    tracker.start(describe())
    for step in range(499):
        tracker.log_metrics({"loss": 0.5}, step=step)
    assert not wait_until(lambda: len(curve(store, tracker.run_id, "loss")) > 0, within_s=0.5)
    tracker.log_metrics({"loss": 0.5}, step=499)
    assert wait_until(lambda: len(curve(store, tracker.run_id, "loss")) == 500)
    tracker.finish("FINISHED")


def test_the_heart_beats_while_the_training_runs(store, describe, monkeypatch):
    monkeypatch.setattr("facerec.tracking.mlflow_tracker._HEARTBEAT_S", 0.1)
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    assert wait_until(lambda: "facerec.heartbeat" in store.get_run(tracker.run_id).data.tags)
    tracker.finish("FINISHED")


def test_finishing_twice_and_finishing_what_never_began_do_nothing(store, describe):
    MlflowTracker(spool_dir=SPOOL).finish("FINISHED")
    tracker = MlflowTracker(spool_dir=SPOOL)
    tracker.start(describe())
    tracker.finish("FAILED")
    tracker.finish("FINISHED")
    assert store.get_run(tracker.run_id).info.status == "FAILED"


def test_a_local_database_gets_a_write_ahead_log(store, describe):
    import sqlite3

    track(describe())
    connection = sqlite3.connect("mlflow.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def wait_until(condition, *, within_s=10.0):
    import time

    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("links", [True, False], ids=["the same disk", "another disk"])
def test_a_model_is_kept_with_the_metrics_of_its_epoch_and_their_data(
    store, describe, curve, tmp_path, monkeypatch, links
):
    def no_link(source, target):
        raise OSError("Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    folder = tmp_path / "predictor"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    tracker = MlflowTracker(spool_dir=SPOOL, flush_every_s=0.05)
    tracker.start(describe())
    tracker.log_metrics({"eval/orl/accuracy": 0.9, "eval/lfw/accuracy": 0.7}, step=4)
    data = [
        DatasetDescription(name=name, digest=name * 20, context="eval", source=f"{name}.bin") for name in ("orl", "lfw")
    ]
    tracker.log_model(
        ModelDescription(
            folder=folder,
            name="predictor",
            step=4,
            params={"head.type": "arcface"},
            tags={"facerec.kind": "predictor"},
            metrics={"eval/orl/accuracy": 0.9, "eval/lfw/accuracy": 0.7, "train/loss": 1.0},
            datasets=tuple(data),
        )
    )
    shutil.rmtree(folder)
    tracker.finish("FINISHED")
    run = store.get_run(tracker.run_id)
    (model,) = store.search_logged_models([run.info.experiment_id])
    assert {(metric.key, metric.dataset_name, metric.value) for metric in model.metrics} == {
        ("eval/orl/accuracy", "orl", 0.9),
        ("eval/lfw/accuracy", "lfw", 0.7),
    }
    assert [item.path for item in store.list_logged_model_artifacts(model.model_id)] == ["MLmodel"]
    assert curve(store, tracker.run_id, "eval/orl/accuracy") == [(4, 0.9)]
    assert list(SPOOL.glob("**/MLmodel")) == []
