"""Verification that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from facerec.config.schema import Config
from facerec.data.pairs import write_pairs
from facerec.errors import PairSetError
from facerec.evaluation.embed import Embeddings, embed_images
from facerec.training.distributed import World
from facerec.training.loop import train
from facerec.training.verification import embed_together
from tests.packs import draw, encode_png

from .conftest import RecordingTracker

SETTINGS: dict[str, Any] = {"image_hw": (32, 32), "device": torch.device("cpu"), "batch_size": 4}


def embed_by(monkeypatch: pytest.MonkeyPatch, images: Sequence[bytes], *, size: int, flip: bool) -> list[Embeddings]:
    """What each of ``size`` processes has at the end; they are run one after the other."""
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)).eval()
    torch.manual_seed(0)
    nn.init.normal_(backbone[1].weight)
    given: dict[int, list[NDArray[Any]]] = {rank: [] for rank in range(size)}
    ready = False

    def gather(world: World, rows: NDArray[Any]) -> list[NDArray[Any]]:
        if not ready:
            given[world.rank].append(rows)
            return [rows]
        turn = next(turns[world.rank])
        return [given[rank][turn] for rank in range(size)]

    monkeypatch.setattr(World, "gather_rows", gather)

    def run(rank: int) -> Embeddings:
        world = World(rank=rank, size=size, local_rank=rank)
        return embed_together(world, backbone, images, flip=flip, what=lambda index: f"image {index}", **SETTINGS)

    for rank in range(size):
        run(rank)
    ready = True
    turns = {rank: iter(range(2)) for rank in range(size)}
    found = [run(rank) for rank in range(size)]
    return [*found, embed_images(backbone, images, flip=flip, **SETTINGS)]


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(("count", "size"), [(7, 2), (3, 3), (2, 5), (1, 2)])
def test_every_process_has_all_embeddings_even_where_there_are_more_processes_than_images(
    monkeypatch: pytest.MonkeyPatch, count: int, size: int, flip: bool
) -> None:
    images = [encode_png(draw(number, 0)) for number in range(count)]
    *found, alone = embed_by(monkeypatch, images, size=size, flip=flip)
    assert len(found) == size
    for part in found:
        np.testing.assert_allclose(part.original, alone.original, rtol=1e-5, atol=1e-5)
        assert (part.flipped is None) == (alone.flipped is None)
        if part.flipped is not None:
            np.testing.assert_allclose(part.flipped, alone.flipped, rtol=1e-5, atol=1e-5)


def test_a_set_that_gives_no_metric_ends_a_training_before_its_first_step(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    images = [encode_png(draw(number // 2, number)) for number in range(40)]
    write_pairs(tmp_path / "genuine.bin", images, [True] * 20)
    tracker = RecordingTracker()
    with pytest.raises(PairSetError, match="20 pairs, 20 of them genuine; verification needs"):
        train(make_config(eval__bin_file=str(tmp_path / "genuine.bin")), tracker=tracker)
    assert tracker.run is None
    assert not (tmp_path / "runs").exists()


def test_a_monitor_that_the_pairs_cannot_show_is_told_when_the_training_starts(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    train(make_config(training__epochs=1, training__monitor="tar_at_far_1e-3"), tracker=RecordingTracker())
    (log,) = (tmp_path / "logs").rglob("train.log")
    assert "eval/people/tar_at_far_1e-3 hangs on one or two pairs" in log.read_text()
