"""The predictor gives what verification computes, and names the image that it cannot read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import facerec
from facerec.config.load import dump_yaml
from facerec.config.schema import Config
from facerec.errors import CheckpointError, DeviceError, ImageError, MissingPathError
from facerec.evaluation.embed import embed_images
from facerec.metrics.similarity import normalise
from facerec.models.weights import load_backbone
from facerec.serving.predictor import Predictor
from facerec.training.loop import train
from tests.packs import draw, encode_png
from tests.serving.models import write_checkpoint
from tests.training.conftest import RecordingTracker, make_config, pack_folder

__all__ = ["make_config", "pack_folder"]

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def run_folder(pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    make: MakeConfig = make_config.__wrapped__(pack_folder, folder)
    return train(make(training__epochs=1), tracker=RecordingTracker()).run_folder


@pytest.fixture(scope="module")
def predictor(run_folder: Path) -> Predictor:
    return Predictor(checkpoint_path=run_folder, use_cpu=True)


@pytest.fixture
def faces(tmp_path: Path) -> list[Path]:
    """Two pictures of one person and one of another."""
    paths = []
    for number, (identity, picture) in enumerate([(2000, 0), (2000, 1), (2001, 0)]):
        path = tmp_path / f"face{number}.png"
        path.write_bytes(encode_png(draw(identity, picture)))
        paths.append(path)
    return paths


def test_an_image_is_like_itself(predictor: Predictor, faces: list[Path]) -> None:
    for face in faces:
        assert predictor.predict(face, face) == pytest.approx(1.0, abs=1e-6)


def test_the_similarity_is_symmetric_and_tells_images_apart(predictor: Predictor, faces: list[Path]) -> None:
    a, _, other = faces
    assert predictor.predict(a, other) == pytest.approx(predictor.predict(other, a), abs=1e-6)
    assert predictor.predict(a, other) < 0.9999
    assert isinstance(predictor.predict(str(a), str(other)), float)


def test_the_embeddings_are_those_of_verification(predictor: Predictor, run_folder: Path, faces: list[Path]) -> None:
    device = torch.device("cpu")
    backbone = load_backbone(run_folder, config=None, device=device).backbone
    images = [face.read_bytes() for face in faces]
    raw = embed_images(backbone, images, image_hw=(32, 32), device=device, batch_size=4, flip=True)
    assert raw.flipped is not None
    summed = raw.original.astype(np.float64) + raw.flipped
    expected = summed / np.sqrt((summed**2).sum(axis=1, keepdims=True))
    embeddings = predictor.embed(*faces)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (3, 32)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)
    similarity = predictor.predict(faces[0], faces[2])
    assert similarity == pytest.approx(float(expected[0] @ expected[2]), abs=1e-6)
    unflipped = raw.original / np.linalg.norm(raw.original, axis=1, keepdims=True)
    assert np.abs(embeddings - unflipped).max() > 1e-4


def test_the_network_is_the_one_that_evaluation_measures(tmp_path: Path, faces: list[Path]) -> None:
    """A copy with folded normalisations rounds differently, which evaluation and the served model never see."""
    checkpoint = write_checkpoint(tmp_path / "step-00000001", backbone="fastcontextface_v2")
    predictor = Predictor(checkpoint_path=checkpoint, use_cpu=True)
    device = torch.device("cpu")
    loaded = load_backbone(checkpoint, device=device)
    images = [face.read_bytes() for face in faces]

    def embed(network: torch.nn.Module) -> np.ndarray:
        raw = embed_images(network, images, image_hw=(32, 32), device=device, batch_size=2 * len(images))
        assert raw.flipped is not None
        return normalise(raw.original.astype(np.float64) + raw.flipped).astype(np.float32)

    np.testing.assert_array_equal(predictor.embed(*faces), embed(loaded.backbone))
    assert np.abs(predictor.embed(*faces) - embed(loaded.backbone.deployed())).max() > 0.0


def test_a_given_configuration_decides_about_the_mirror_image(
    run_folder: Path, faces: list[Path], tmp_path: Path, predictor: Predictor
) -> None:
    text = dump_yaml(predictor.config)
    path = tmp_path / "c.yaml"
    path.write_text(text.replace("flip: true", "flip: false"))
    plain = Predictor(checkpoint_path=run_folder, config_path=path, use_cpu=True)
    assert not plain.config.eval.flip
    assert np.abs(plain.embed(faces[0]) - predictor.embed(faces[0])).max() > 1e-4


def test_an_image_of_another_size_is_scaled(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(encode_png(draw(3, 0, side=64)))
    assert predictor.embed(path).shape == (1, 32)


@pytest.mark.parametrize("place", [0, 1])
def test_a_missing_image_is_named(predictor: Predictor, faces: list[Path], tmp_path: Path, place: int) -> None:
    pair = [faces[0], faces[1]]
    pair[place] = tmp_path / "absent.png"
    with pytest.raises(ImageError, match=r"absent\.png does not exist"):
        predictor.predict(*pair)


@pytest.mark.parametrize("content", [b"", b"no picture", encode_png(draw(1, 1))[:200]])
def test_a_broken_image_is_named(predictor: Predictor, faces: list[Path], tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        predictor.predict(faces[0], broken)


def test_a_checkpoint_folder_serves_like_its_run(predictor: Predictor, run_folder: Path, faces: list[Path]) -> None:
    for link in ("best", "last"):
        other = Predictor(checkpoint_path=run_folder / link, use_cpu=True)
        np.testing.assert_array_equal(other.embed(faces[0]), predictor.embed(faces[0]))


def test_use_cpu_stays_on_the_cpu(run_folder: Path) -> None:
    assert Predictor(checkpoint_path=run_folder, use_cpu=True, device="cuda:97").device == torch.device("cpu")


def test_mistakes_are_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="nowhere does not exist"):
        Predictor(checkpoint_path=tmp_path / "nowhere", use_cpu=True)
    with pytest.raises(DeviceError, match="tpu"):
        Predictor(checkpoint_path=run_folder, device="tpu")
    with pytest.raises(CheckpointError):
        Predictor(checkpoint_path=tmp_path, use_cpu=True)


def test_the_package_offers_the_predictor_and_loads_it_late() -> None:
    assert facerec.Predictor is Predictor
    with pytest.raises(AttributeError, match="Predictr"):
        facerec.Predictr  # noqa: B018
    code = "import sys, facerec; print('torch' in sys.modules); facerec.Predictor; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert output.stdout.split() == ["False", "True"]
