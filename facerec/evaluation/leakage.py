"""Identities of a training pack that are in a verification set too, found by their embeddings.

A model that has trained on the people it is verified on scores too well; with public collections of photographs of the
same celebrities that happens more often than not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facerec.data.pack import FacePack
from facerec.data.packing.identities import Identity, list_identities
from facerec.data.pairs import PairSet
from facerec.errors import UsageError
from facerec.evaluation.embed import Embeddings, embed_images

__all__ = ["Leakage", "SharedIdentity", "find_shared_identities"]

_IMAGES_AT_A_TIME = 4096
Progress = Callable[[int, int], None]
_Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SharedIdentity:
    """An identity of the pack that looks like a person of the pair set."""

    label: int
    name: str
    similarity: float
    """Cosine of the identity's mean embedding and that of the image of the pair set."""
    pair_image: int
    """The number of that image in the pair set."""
    keys: tuple[int, ...]
    """All images of the identity."""


@dataclass(frozen=True, slots=True)
class Leakage:
    """What a pack and a pair set share, as far as a model can tell."""

    shared: list[SharedIdentity]
    """Most similar first."""
    impostor_rate: float
    """The share of the set's impostor pairs that reach the threshold; far from 0 the findings are no findings."""


def find_shared_identities(
    pack: FacePack,
    pairs: PairSet,
    backbone: nn.Module,
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    threshold: float,
    images_per_identity: int = 4,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Leakage:
    """Find identities whose mean embedding has a cosine of ``threshold`` or more with an image of the pair set.

    Args:
        pack: The training pack.
        pairs: The verification set.
        backbone: On ``device``; see `embed_images`.
        image_hw: Height and width that it takes.
        device: Where it is.
        threshold: Cosine, in (-1, 1].
        images_per_identity: How many images, spread over those of the identity, make its mean.
        batch_size: Images in a batch.
        progress: Told of the identities that are done.

    Raises:
        UsageError: the threshold is no cosine, or there are no images to take.
        DataError: an image or a record is damaged.
    """
    if not -1 < threshold <= 1 or images_per_identity < 1:
        raise UsageError("the threshold is a cosine above -1 and up to 1, and an identity needs at least one image")
    distinct = {image: number for number, image in reversed(list(enumerate(pairs.images)))}

    def embed(images: Sequence[bytes], what: str) -> _Rows:
        return _directions(
            embed_images(backbone, images, image_hw=image_hw, device=device, batch_size=batch_size, what=what)
        )

    targets_MD = embed(list(distinct), f"{pairs.name}: image")
    numbers = list(distinct.values())
    identities = list_identities(pack)
    shared: list[SharedIdentity] = []
    done = 0
    for group in _groups(identities, images_per_identity):
        images = [
            bytes(pack.read_image(key).image) for identity in group for key in _spread(identity, images_per_identity)
        ]
        counts = [len(_spread(identity, images_per_identity)) for identity in group]
        centres_ID = _mean_directions(embed(images, f"{pack.rec_path.name}: image"), counts)
        cosines_IM = centres_ID @ targets_MD.T
        nearest = cosines_IM.argmax(axis=1)
        for identity, place, row in zip(group, nearest.tolist(), cosines_IM, strict=True):
            if row[place] >= threshold:
                keys = tuple(identity.keys.tolist())
                shared.append(SharedIdentity(identity.label, identity.name, float(row[place]), numbers[place], keys))
        done += len(group)
        if progress is not None:
            progress(done, len(identities))
    shared.sort(key=lambda one: (-one.similarity, one.label))
    return Leakage(shared, _impostor_rate(pairs, targets_MD, list(distinct), threshold))


def _impostor_rate(pairs: PairSet, targets_MD: _Rows, images: Sequence[bytes], threshold: float) -> float:
    rows = {image: row for row, image in enumerate(images)}
    places = np.array([rows[image] for image in pairs.images]).reshape(-1, 2)[~pairs.issame]
    cosines = (targets_MD[places[:, 0]] * targets_MD[places[:, 1]]).sum(axis=1)
    return float((cosines >= threshold).mean()) if len(cosines) else 0.0


def _groups(identities: list[Identity], images_per_identity: int) -> list[list[Identity]]:
    size = max(1, _IMAGES_AT_A_TIME // images_per_identity)
    return [identities[start : start + size] for start in range(0, len(identities), size)]


def _spread(identity: Identity, number: int) -> list[int]:
    """Keys of images spread evenly over those of the identity."""
    places = np.unique(np.linspace(0, len(identity.keys) - 1, min(number, len(identity.keys))).astype(int))
    return identity.keys[places].tolist()


def _directions(embeddings: Embeddings) -> _Rows:
    summed = embeddings.original if embeddings.flipped is None else embeddings.original + embeddings.flipped
    return _normalised(summed)


def _mean_directions(directions_ND: _Rows, counts: Sequence[int]) -> _Rows:
    starts = np.cumsum([0, *counts[:-1]])
    return _normalised(np.add.reduceat(directions_ND, starts, axis=0))


def _normalised(rows: _Rows) -> _Rows:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalised: _Rows = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalised
