"""Verification while training; several processes share the pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.pairs import PairSet
from facerec.evaluation.embed import Embeddings, embed_images
from facerec.evaluation.pictures import write_roc_picture
from facerec.evaluation.result import PairResult, score_pairs
from facerec.evaluation.suites import evaluate_configured, metric_values
from facerec.training.session import Session

__all__ = ["verify"]


def verify(session: Session) -> dict[str, float]:
    """Verify the model on every pair set; the metrics, the same on every process.

    Rank 0 also hands them to the tracker, with the ROC picture.
    """
    results = _alone(session) if session.world.size == 1 else _together(session)
    metrics: dict[str, float] = {}
    if session.world.is_main:
        metrics = metric_values(results)
        session.tracker.log_metrics(metrics, step=session.epoch)
        picture = session.run_folder / "pictures" / f"roc_epoch_{session.epoch:03d}.png"
        picture.parent.mkdir(exist_ok=True)
        write_roc_picture(results, picture)
        session.tracker.log_file(picture, folder="pictures")
        session.tracker.log_image(picture, key="roc", step=session.epoch)
    # JSON keeps every bit of a float, so that all processes judge alike.
    shared: dict[str, float] = json.loads(session.world.text_of_main(json.dumps(metrics)))
    return shared


def _alone(session: Session) -> list[PairResult]:
    return evaluate_configured(
        session.parts.verified_backbone, session.pair_sets, config=session.config, device=session.device
    )


def _together(session: Session) -> list[PairResult]:
    results: list[PairResult] = []
    # Each process has the running statistics of its own last batch; the checkpoint holds those of rank 0.
    session.world.take_buffers_of_main(session.parts.verified_backbone)
    for pairs in session.pair_sets:
        embeddings = _embed_together(session, pairs)
        if session.world.is_main:
            results.append(
                score_pairs(
                    embeddings,
                    pair_index=np.arange(2 * pairs.num_pairs).reshape(-1, 2),
                    issame=pairs.issame,
                    name=pairs.name,
                    sha256=pairs.sha256,
                )
            )
    return results


def _embed_together(session: Session, pairs: PairSet) -> Embeddings:
    config, world = session.config, session.world
    first = len(pairs.images) * world.rank // world.size
    end = len(pairs.images) * (world.rank + 1) // world.size
    part = embed_images(
        session.parts.verified_backbone,
        pairs.images[first:end],
        image_hw=config.image_hw,
        device=session.device,
        batch_size=config.eval.test_batch_size,
        flip=config.eval.flip,
        what=f"{pairs.name}: image {first} +",
    )
    original = np.concatenate(world.gather_rows(part.original))
    flipped: NDArray[Any] | None = None
    if part.flipped is not None:
        flipped = np.concatenate(world.gather_rows(part.flipped))
    return Embeddings(original=original, flipped=flipped)
