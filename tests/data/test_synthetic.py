"""Drawn packs: their layout, that they repeat, and that identities look like themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.main import cli
from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.pairs import read_pairs
from facerec.data.synthetic import draw_identity, write_synthetic_pack
from facerec.errors import UsageError

FILES = ("train.rec", "train.idx", "property", "identities.tsv", "synthetic.bin")


def test_the_layout_is_that_of_insightface(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=5, images_per_identity=3, side=48, num_pairs=20)
    pack = FacePack.open(made.folder)
    assert (pack.layout, pack.num_images, pack.num_classes, pack.image_hw) == ("header", 15, 5, (48, 48))
    assert pack.labels().tolist() == np.repeat(range(5), 3).tolist()
    assert decode_image(pack.read_image(15).image).shape == (48, 48, 3)
    header = pack.reader.read(0)
    assert np.frombuffer(header, "<f4", offset=24).tolist() == [16, 21]
    assert np.frombuffer(pack.reader.read(17), "<f4", offset=24).tolist() == [4, 7]


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    numbers = {"num_identities": 4, "images_per_identity": 3, "side": 32, "num_pairs": 20}
    one = write_synthetic_pack(tmp_path / "one", seed=7, **numbers)
    two = write_synthetic_pack(tmp_path / "two", seed=7, workers=2, **numbers)
    other = write_synthetic_pack(tmp_path / "other", seed=8, **numbers)
    for name in FILES:
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert (one.folder / "train.rec").read_bytes() != (other.folder / "train.rec").read_bytes()


def test_images_of_one_identity_are_nearer_to_each_other_than_to_others(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=1, images_per_identity=1, side=64, num_pairs=60)
    assert made.bin_path is not None
    pairs = read_pairs(made.bin_path)
    vectors = np.stack([decode_image(image).reshape(-1) for image in pairs.images]).astype(float)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    assert np.median(scores[pairs.issame]) > np.median(scores[~pairs.issame]) + 0.1


def test_pairs_are_of_identities_outside_the_pack(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=30, images_per_identity=2, side=32, num_pairs=40)
    assert made.bin_path is not None
    pack = FacePack.open(made.folder)
    packed = {bytes(pack.read_image(key).image) for key in pack.image_keys.tolist()}
    pairs = read_pairs(made.bin_path)
    assert packed.isdisjoint(pairs.images)
    np.testing.assert_array_equal(pairs.issame, np.tile([True, True, False, False], 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_identities": 0}, "at least one identity"),
        ({"side": 8}, "give 16 to 1024"),
        ({"quality": 101}, "1 to 100"),
        ({"num_pairs": 30}, "multiple of 20"),
        ({"workers": -1}, "not possible"),
    ],
)
def test_numbers_that_cannot_be_are_refused_and_nothing_is_left(tmp_path: Path, change: dict, message: str) -> None:
    numbers = {"num_identities": 2, "images_per_identity": 2, "side": 32} | change
    with pytest.raises(UsageError, match=message):
        write_synthetic_pack(tmp_path / "p", **numbers)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_pack_once(tmp_path: Path) -> None:
    arguments = ["data", "synthetic", str(tmp_path / "p"), "--identities", "3", "--images", "2", "--size", "32",
                 "--pairs", "20", "--workers", "0", "--json"]  # fmt: skip
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["num_images"], facts["num_identities"], facts["num_pairs"]) == (6, 3, 20)
    again = CliRunner().invoke(cli, arguments)
    assert isinstance(again.exception, UsageError)
    assert "exists already" in str(again.exception)


def test_drawings_differ_between_identities() -> None:
    assert np.abs(draw_identity(1).astype(int) - draw_identity(2).astype(int)).mean() > 10
    np.testing.assert_array_equal(draw_identity(1), draw_identity(1))
