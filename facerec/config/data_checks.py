"""Rules of the section ``data``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from facerec.config.schema import Config

__all__ = ["check_data"]


def check_data(config: Config) -> Iterator[tuple[str, str]]:
    """Yield every problem of the training set, its weights and its sampler."""
    roots = [PurePath(root) for root in config.data_roots]
    if len(set(roots)) < len(roots):
        yield "data.root", "lists a pack twice; data.weights shows one more often"
    weights = config.data.weights
    if weights is not None and len(weights) != len(roots):
        yield "data.weights", f"has {len(weights)} numbers, but data.root names {len(roots)} packs; give one for each"
    if weights is not None and len(roots) == 1:
        yield "data.weights", "has no effect with one pack; remove it"
    yield from _check_sampler(config)


def _check_sampler(config: Config) -> Iterator[tuple[str, str]]:
    data, sampler = config.data, config.data.sampler
    if sampler.type == "shuffle":
        if sampler.images is not None:
            yield "data.sampler.images", "has no effect with data.sampler.type 'shuffle'; remove it"
        return
    images = sampler.images_per_identity
    if data.batch_size % images:
        yield (
            "data.sampler.images",
            f"{images} does not divide data.batch_size ({data.batch_size}); a batch has whole identities",
        )
    for name, value in (("weights", data.weights), ("shuffle_block", data.shuffle_block)):
        if value:
            yield f"data.{name}", "has no effect with data.sampler.type 'balanced'; remove it"
