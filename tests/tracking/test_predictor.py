"""A training leaves a predictor in MLflow that can be registered and loaded from there."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerec.config.load import config_from_dict
from facerec.tracking.build import build_tracker
from facerec.tracking.null import NullTracker
from facerec.tracking.predictor import keep_predictor
from facerec.training.loop import train
from facerec.training.record import TrainResult
from tests.packs import draw, write_pack, write_pair_set

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.slow
def test_a_training_leaves_a_predictor_that_can_be_registered_and_asked(
    store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    # The best epoch has been verified while training; its scores are taken.
    monkeypatch.setattr("facerec.serving.appraise.verify", None)
    pack = write_pack(tmp_path / "pack")
    write_pair_set(pack / "others.bin")
    config = config_from_dict(
        {
            "model": {"backbone": "iresnet_mini", "embedding_size": 16},
            "data": {"root": str(pack), "batch_size": 16, "img_size": 32, "num_workers": 0},
            "training": {"epochs": 2, "lr": 0.05},
            "eval": {"bin_file": "others.bin"},
            "checkpoint": {"save_dir": str(tmp_path / "runs")},
            "logging": {"log_dir": str(tmp_path / "logs"), "experiment": "faces"},
        }
    )
    tracker = build_tracker(config, log_folder=tmp_path / "logs")
    result = train(config, tracker=tracker, before_finish=lambda result: keep_predictor(tracker, result))

    run = store.get_run(tracker.run_id)
    assert "## Verification" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["facerec.run_folder"] == str(result.run_folder)
    (model,) = store.search_logged_models([run.info.experiment_id])
    accuracy = next(metric for metric in model.metrics if metric.key == "eval/others/accuracy")
    assert accuracy.value == result.best.metrics["eval/others/accuracy"]
    assert accuracy.dataset_name == "others"
    names = [item.path for item in store.list_artifacts(run.info.run_id, "images")]
    assert sum(name.startswith("images/roc+step+2+") for name in names) == 2

    version = mlflow.register_model(f"models:/{model.model_id}", "faces")
    predictor = mlflow.pyfunc.load_model(f"models:/faces/{version.version}")
    stream = io.BytesIO()
    Image.fromarray(draw(3, 1)).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    answer = predictor.predict([{"image_a": text, "image_b": text}])
    assert np.isclose(answer[0]["similarity"] if isinstance(answer, list) else answer["similarity"][0], 1.0, atol=1e-5)


def test_a_predictor_that_cannot_be_packed_fails_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = TrainResult(run_folder=tmp_path, monitor="", untrained=None, best=None, last=None, tracker_run_id=None)
    keep_predictor(NullTracker(), result)
    (record,) = caplog.records
    assert record.getMessage().startswith("the predictor could not be packed (")
    assert "facerec register --checkpoint" in record.getMessage()
