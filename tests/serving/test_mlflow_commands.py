"""MLflow's own commands work on a registered predictor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from facerec.evaluation.embed import embed_images
from facerec.metrics.similarity import normalise
from facerec.models.weights import load_backbone
from tests.serving.conftest import Registered
from tests.serving.models import SIDE, face, serve, text_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(registered: Registered, folder: Path, *arguments: str) -> None:
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": registered.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    outcome = subprocess.run(
        ["mlflow", "models", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr


def test_predict_answers_a_file(registered: Registered, tmp_path: Path) -> None:
    rows = [{"image_a": text_of(face(1)), "image_b": text_of(face(1, 1))}]
    (tmp_path / "pairs.json").write_text(json.dumps({"dataframe_records": rows, "params": {"threshold": -1.0}}))
    options = ["-m", "models:/faces@champion", "-i", "pairs.json", "-o", "out.json", "--env-manager", "local"]
    run(registered, tmp_path, "predict", *options)
    (answer,) = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert answer["same_person"] is True
    assert answer["error"] is None


def test_the_dockerfile_installs_the_pinned_requirements(registered: Registered, tmp_path: Path) -> None:
    run(registered, tmp_path, "generate-dockerfile", "-m", "models:/faces@champion", "-d", "image")
    text = (tmp_path / "image" / "Dockerfile").read_text()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert re.search(rf"^FROM python:{re.escape(version)}", text, re.MULTILINE)
    copied = tmp_path / "image" / "model_dir"
    assert (copied / "artifacts" / "predictor" / "model.safetensors").is_file()
    pinned = (copied / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}" in pinned
    assert "optuna" not in pinned
    assert "ENTRYPOINT" in text


def test_two_workers_answer_like_evaluation_from_many_threads(registered: Registered, tmp_path: Path) -> None:
    images = [face(identity) for identity in range(24)]
    loaded = load_backbone(registered.checkpoint)
    embeddings = embed_images(loaded.backbone, images, image_hw=(SIDE, SIDE), device=torch.device("cpu"), batch_size=16)
    assert embeddings.flipped is not None
    expected = normalise(embeddings.original.astype("float64") + embeddings.flipped)
    uri = "models:/faces@champion"
    with serve(uri, tracking_uri=registered.tracking_uri, log=tmp_path / "log.txt", workers=2) as server:

        def embed(number: int) -> float:
            (answer,) = server.ask({"image_a": text_of(images[number])}, mode="embed")
            return float(abs(expected[number] - answer["embedding"]).max())

        with ThreadPoolExecutor(8) as threads:
            assert max(threads.map(embed, list(range(24)) * 2)) <= 1e-6
        together = server.ask(*[{"image_a": text_of(image)} for image in images], mode="embed")
        assert max(float(abs(e - a["embedding"]).max()) for e, a in zip(expected, together, strict=True)) <= 1e-6
        times = []
        for _ in range(30):
            start = time.perf_counter()
            server.ask({"image_a": "x", "image_b": "x"})
            times.append(time.perf_counter() - start)
        # A stall of Nagle's algorithm against delayed acknowledgements would show in every request.
        assert min(times) < 0.035
