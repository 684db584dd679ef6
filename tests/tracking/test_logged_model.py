"""Models in MLflow: once each, with their metrics tied to the data, and no second point in the run's curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric

from facerec.tracking.logged_model import send_model

KEY = "eval/orl/accuracy"


@pytest.fixture
def run_id(store: MlflowClient) -> str:
    run = store.create_run(store.create_experiment("faces"))
    store.log_batch(run.info.run_id, [Metric(KEY, 0.8, 5_000, 1), Metric(KEY, 0.9, 6_000, 2)])
    return str(run.info.run_id)


@pytest.fixture
def body(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    part = {"dataset": "orl", "digest": "f" * 64, "values": {KEY: 0.9}}
    return {
        "path": str(folder),
        "name": "predictor",
        "step": 2,
        "time_ms": 7_000,
        "params": {"head.type": "arcface"},
        "tags": {"facerec.kind": "predictor"},
        "metrics": [part],
    }


def models(store: MlflowClient) -> list[Any]:
    return list(store.search_logged_models([store.get_experiment_by_name("faces").experiment_id]))


def test_a_model_is_the_output_of_its_run_and_has_its_metrics_and_data(
    store: MlflowClient, run_id: str, body: dict[str, Any], curve: Any
) -> None:
    model_id = send_model(store, run_id, body, session="one")
    model = store.get_logged_model(model_id)
    assert (model.status, model.source_run_id, model.name) == (LoggedModelStatus.READY, run_id, "predictor")
    assert model.params == {"head.type": "arcface"}
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.step) == (KEY, 0.9, 2)
    assert (metric.dataset_name, metric.dataset_digest) == ("orl", "f" * 36)
    (output,) = store.get_run(run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model_id, 2)
    assert [item.path for item in store.list_logged_model_artifacts(model_id)] == ["MLmodel"]
    assert curve(store, run_id, KEY) == [(1, 0.8), (2, 0.9)]


def test_sending_again_makes_no_second_model(store: MlflowClient, run_id: str, body: dict[str, Any]) -> None:
    assert send_model(store, run_id, body, session="one") == send_model(store, run_id, body, session="one")
    assert len(models(store)) == 1
    send_model(store, run_id, body, session="two")
    assert len(models(store)) == 2


@pytest.mark.parametrize("call", ["log_outputs", "log_model_artifacts", "log_batch", "finalize_logged_model"])
def test_a_model_whose_upload_broke_off_is_completed(
    store: MlflowClient, run_id: str, body: dict[str, Any], curve: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, fail)
        with pytest.raises(ConnectionError):
            send_model(store, run_id, body, session="one")
    assert [model.status for model in models(store)] == [LoggedModelStatus.PENDING]
    model_id = send_model(store, run_id, body, session="one")
    (model,) = models(store)
    assert (model.model_id, model.status) == (model_id, LoggedModelStatus.READY)
    assert len(model.metrics) == 1
    assert curve(store, run_id, KEY) == [(1, 0.8), (2, 0.9)]
    (output,) = store.get_run(run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model_id, 2)
