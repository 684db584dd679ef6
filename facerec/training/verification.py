"""Verification while training; several processes share the pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from facerec.evaluation.embed import Embeddings, NameOf, Progress, embed_images
from facerec.evaluation.pictures import write_roc_picture
from facerec.evaluation.result import PairResult, metric_values
from facerec.evaluation.suites import embed_configured, score_embedded
from facerec.training.distributed import World
from facerec.training.failures import explained_disk
from facerec.training.session import Session

__all__ = ["embed_together", "verify"]


def verify(session: Session) -> tuple[dict[str, float], list[PairResult]]:
    """Verify the model on every pair set; the metrics, the same on every process, and on rank 0 the results.

    Rank 0 also hands them to the tracker, with the ROC picture.
    """
    results = _results(session)
    metrics: dict[str, float] = {}
    if session.world.is_main:
        metrics = metric_values(results)
        session.tracker.log_metrics(metrics, step=session.epoch)
        picture = session.run_folder / "pictures" / f"roc_epoch_{session.epoch:03d}.png"
        with explained_disk(session, f"the picture of epoch {session.epoch}"):
            picture.parent.mkdir(exist_ok=True)
            write_roc_picture(results, picture)
        session.tracker.log_file(picture, folder="pictures")
        session.tracker.log_image(picture, key="roc", step=session.epoch)
    # JSON keeps every bit of a float, so that all processes judge alike.
    shared: dict[str, float] = json.loads(session.world.text_of_main(json.dumps(metrics)))
    return shared, results


def _results(session: Session) -> list[PairResult]:
    """The result of every pair set, on rank 0; none elsewhere."""
    backbone = session.parts.verified_backbone
    # Each process has the running statistics of its own last batch; the checkpoint holds those of rank 0.
    session.world.take_buffers_of_main(backbone)
    embedded = embed_configured(
        backbone,
        session.pair_sets,
        config=session.config,
        device=session.device,
        embed=partial(embed_together, session.world),
    )
    return [score_embedded(one) for one in embedded] if session.world.is_main else []


def embed_together(
    world: World,
    backbone: nn.Module,
    images: Sequence[bytes],
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool,
    what: NameOf,
    progress: Progress | None = None,
) -> Embeddings:
    """`embed_images`, each process its share of the images; the embeddings of all, on every process.

    There may be fewer images than processes. ``progress`` is told of this process's own.
    """
    first, end = (len(images) * number // world.size for number in (world.rank, world.rank + 1))
    # A process without a share embeds a picture all the same, for the shape of its empty part.
    part = embed_images(
        backbone,
        images[first : max(end, first + 1)],
        image_hw=image_hw,
        device=device,
        batch_size=batch_size,
        flip=flip,
        what=lambda index: what(first + index),
        progress=progress,
    )
    original = np.concatenate(world.gather_rows(part.original[: end - first]))
    if part.flipped is None:
        return Embeddings(original=original, flipped=None)
    return Embeddings(original=original, flipped=np.concatenate(world.gather_rows(part.flipped[: end - first])))
