"""A model is a path or an address in MLflow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import requests

from facerec.errors import MissingPathError, TrackingError
from facerec.serving import locate as locate_module
from facerec.serving.locate import locate_model


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.touch()
    assert locate_model(str(path)) == path
    assert locate_model(str(tmp_path)) == tmp_path


def test_a_path_that_does_not_exist_is_named() -> None:
    with pytest.raises(MissingPathError, match="model no/where does not exist"):
        locate_model("no/where")


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("runs:/abc", "runs:/abc/checkpoints/best"),
        ("runs:/abc/", "runs:/abc/checkpoints/best"),
        ("runs:/abc/checkpoints/last", "runs:/abc/checkpoints/last"),
        ("models:/faces@champion", "models:/faces@champion"),
        ("models:/faces/3", "models:/faces/3"),
    ],
)
def test_an_address_is_fetched_and_a_bare_run_means_its_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, asked: str
) -> None:
    seen: list[str] = []

    def fetch(uri: str) -> Path:
        seen.append(uri)
        return tmp_path

    monkeypatch.setattr(locate_module, "_fetch", fetch)
    assert locate_model(model) == tmp_path
    assert seen == [asked]


@pytest.mark.slow
def test_an_artifact_comes_from_the_store_and_an_unknown_run_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    # By the environment, not by mlflow.set_tracking_uri, which would stay set for the tests that follow.
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "weights", "checkpoints/best/model.txt")
    found = locate_model(f"runs:/{run_id}")
    assert (found / "model.txt").read_text() == "weights"
    with pytest.raises(MissingPathError, match=r"runs:/0123456789abcdef\S* cannot be fetched from sqlite"):
        locate_model("runs:/0123456789abcdef0123456789abcdef")
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_store_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def refuse(*, artifact_uri: str) -> str:
        raise requests.ConnectionError("refused")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    with pytest.raises(TrackingError, match="does not answer for models:/faces@champion"):
        locate_model("models:/faces@champion")
