"""``facerec data dedupe`` with a trained model: people of the pair set are found, reported and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facerec.cli.main import cli
from facerec.config.schema import Config
from facerec.data.image_record import build_image_record
from facerec.data.pack import FacePack
from facerec.data.pairs import write_pairs
from facerec.data.record_writer import RecordWriter
from facerec.training.loop import train
from tests.packs import draw, encode_png
from tests.training.conftest import RecordingTracker, make_config, pack_folder

__all__ = ["make_config", "pack_folder"]

pytestmark = pytest.mark.slow  # It trains first.
MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def run_folder(pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make: MakeConfig = make_config.__wrapped__(pack_folder, folder)
    return train(make(training__epochs=1), tracker=RecordingTracker()).run_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten people with a picture each; the pair set has the same pixels of number 3 in another file, and others."""
    with RecordWriter(tmp_path / "train.rec") as writer:
        for label in range(10):
            writer.write(label, build_image_record(encode_png(draw(label, 0)), label=label))
    # Bytes behind the end of a PNG are no pixels.
    images = [encode_png(draw(3, 0)) + b" ", *(encode_png(draw(100 + person, 0)) for person in range(7))]
    write_pairs(tmp_path / "x.bin", images, [False] * 4)
    return tmp_path


def dedupe(folder: Path, model: Path, *arguments: str) -> Result:
    fixed = [
        "data",
        "dedupe",
        str(folder),
        "--against",
        str(folder / "x.bin"),
        "--model",
        str(model),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli, [*fixed, *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_people_of_the_pair_set_are_left_out(folder: Path, run_folder: Path) -> None:
    result = dedupe(folder, run_folder, "--threshold", "0.99999", "--output", str(folder / "clean"), "--json")
    facts = json.loads(result.stdout)
    assert facts["images_in_pair_set"] == []
    assert [(one["label"], one["pair_image"], one["images"]) for one in facts["shared_identities"]] == [(3, 0, 1)]
    assert facts["written"]["num_identities"] == FacePack.open(folder / "clean").num_classes == 9
    assert "looks like image 0" in (folder / "clean" / "removed.tsv").read_text()


def test_a_threshold_that_tells_nobody_apart_is_said(folder: Path, run_folder: Path) -> None:
    text = dedupe(folder, run_folder, "--threshold", "-0.99").stdout
    assert "10 identities look like people of the pair set" in text
    assert "100.0 % of the set's own impostor pairs reach this threshold" in text
