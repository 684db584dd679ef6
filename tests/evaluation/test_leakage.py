"""People of a pair set in a training pack are found by their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facerec.data.image_record import build_image_record
from facerec.data.pack import FacePack
from facerec.data.pairs import read_pairs, write_pairs
from facerec.data.record_writer import RecordWriter
from facerec.errors import UsageError
from facerec.evaluation.leakage import Leakage, find_shared_identities
from tests.packs import draw, encode_png


class Thumbnail(nn.Module):
    """Embeds a picture as its 4 x 4 thumbnail without its mean: the grid of `tests.packs.draw`."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images_BCHW, 4)
        small = (small + small.flip(3)).flatten(1)
        return small - small.mean(dim=1, keepdim=True)


@pytest.fixture
def pack(tmp_path: Path) -> FacePack:
    with RecordWriter(tmp_path / "train.rec") as writer:
        for key in range(30):
            writer.write(key, build_image_record(encode_png(draw(key // 5, key)), label=key // 5))
    return FacePack.open(tmp_path / "train.rec")


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    """Pairs of the people 3 and 5 of the pack, in pictures of their own, and of others."""
    people = [50, 51, 3, 52, 53, 5]
    write_pairs(tmp_path / "x.bin", [encode_png(draw(person, 1000)) for person in people], [False] * 3)
    return tmp_path / "x.bin"


def compare(pack: FacePack, bin_path: Path, threshold: float, images_per_identity: int = 2) -> Leakage:
    return find_shared_identities(
        pack,
        read_pairs(bin_path),
        Thumbnail(),
        image_hw=(32, 32),
        device=torch.device("cpu"),
        threshold=threshold,
        images_per_identity=images_per_identity,
    )


def test_the_people_of_both_are_found_and_no_others(pack: FacePack, bin_path: Path) -> None:
    leakage = compare(pack, bin_path, threshold=0.95)
    found = leakage.shared
    assert leakage.impostor_rate == 0
    assert {(one.label, one.pair_image) for one in found} == {(3, 2), (5, 5)}
    assert found[0].similarity >= found[1].similarity > 0.95
    assert {one.label: one.keys for one in found}[3] == (15, 16, 17, 18, 19)


def test_the_similarity_is_the_cosine_with_the_mean_embedding(pack: FacePack, bin_path: Path) -> None:
    def embed(person: int, picture: int) -> np.ndarray:
        pixels = draw(person, picture).astype(np.float64)
        small = pixels.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
        vector = (small + small[:, :, ::-1]).reshape(-1)
        vector -= vector.mean()
        return vector / np.linalg.norm(vector)

    mean = sum(embed(3, key) for key in range(15, 20))
    expected = float(mean @ embed(3, 1000) / np.linalg.norm(mean))
    found = {one.label: one.similarity for one in compare(pack, bin_path, 0.95, images_per_identity=9).shared}
    assert found[3] == pytest.approx(expected, abs=2e-6)


def test_a_threshold_that_is_no_cosine_is_refused(pack: FacePack, bin_path: Path) -> None:
    for threshold in (-1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="cosine"):
            compare(pack, bin_path, threshold=threshold)


def test_a_threshold_that_accepts_impostors_is_told(pack: FacePack, bin_path: Path) -> None:
    assert compare(pack, bin_path, threshold=-0.999).impostor_rate == 1.0
