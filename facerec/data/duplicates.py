"""Images that occur more than once in a pack, byte for byte, and a pack without them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.pack import FacePack
from facerec.data.packing.combine import Written
from facerec.data.packing.identities import image_size, list_identities, write_identities
from facerec.data.packing.identity_names import escape

__all__ = ["Duplicates", "Removal", "find_duplicates", "write_without"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Removal:
    """An image that a clean pack does not have."""

    key: int
    label: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images with the same bytes as another one."""

    num_images: int
    within: list[list[int]]
    """Keys of equal images of one identity, in groups."""
    between: list[list[int]]
    """Keys of equal images of different identities, in groups."""
    in_pairs: list[int]
    """Keys of images that are in the verification set as well."""
    removals: list[Removal] = field(default_factory=list)
    """What to leave out: of a group within an identity all but the first, and else all of them."""


def find_duplicates(
    pack: FacePack, *, pair_images: Iterable[bytes] = (), progress: Progress | None = None
) -> Duplicates:
    """Compare all images of a pack by their bytes, with each other and with those of a verification set.

    Raises:
        DataError: the pack is damaged.
    """
    labels = pack.labels()
    known = {_digest(image) for image in pair_images}
    digests = np.empty((pack.num_images, 2), dtype=np.uint64)
    in_pairs: list[int] = []
    for place, key in enumerate(pack.image_keys.tolist()):
        digest = _digest(pack.read_image(key).image)
        digests[place] = np.frombuffer(digest, dtype=np.uint64)
        if digest in known:
            in_pairs.append(key)
        if progress is not None and place % 256 == 0:
            progress(place, pack.num_images)
    within: list[list[int]] = []
    between: list[list[int]] = []
    removals = [Removal(key, int(labels[pack.image_keys.searchsorted(key)]), "is in the pair set") for key in in_pairs]
    for places in _equal_rows(digests):
        keys = pack.image_keys[places].tolist()
        if len(set(labels[places].tolist())) == 1:
            within.append(keys)
            removals += [Removal(key, int(labels[places[0]]), f"equals image {keys[0]}") for key in keys[1:]]
        else:
            between.append(keys)
            shown = ", ".join(map(str, sorted(set(labels[places].tolist()))))
            removals += [
                Removal(key, int(labels[place]), f"the same image has the labels {shown}")
                for key, place in zip(keys, places.tolist(), strict=True)
            ]
    return Duplicates(num_images=pack.num_images, within=within, between=between, in_pairs=in_pairs, removals=removals)


def write_without(
    pack: FacePack, out: Path, removals: Iterable[Removal], *, progress: Progress | None = None
) -> Written:
    """Write the pack without some images; ``removed.tsv`` beside it lists them with the reason.

    Raises:
        UsageError: ``out`` exists.
        DataError: nothing is left, the pack is damaged, or the disk is full.
    """
    reasons: dict[int, list[str]] = defaultdict(list)
    labels: dict[int, int] = {}
    for removal in removals:
        reasons[removal.key].append(removal.reason)
        labels[removal.key] = removal.label
    lines = [f"{key}\t{labels[key]}\t{escape('; '.join(reasons[key]))}\n" for key in sorted(reasons)]
    images, identities = write_identities(
        out,
        list_identities(pack),
        image_hw=image_size(pack),
        drop_keys=frozenset(reasons),
        extra_files=[("removed.tsv", "key\tlabel\treason\n" + "".join(lines))],
        progress=progress,
    )
    return Written(folder=out, num_images=images, num_identities=identities)


def _digest(image: bytes | memoryview) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()


def _equal_rows(digests: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Places of equal rows, ascending, for every row that occurs more than once."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ascending = digests[order]
    starts = np.flatnonzero(np.r_[True, (ascending[1:] != ascending[:-1]).any(axis=1)])
    sizes = np.diff(np.r_[starts, len(order)])
    groups = [np.sort(order[start : start + size]) for start, size in
              zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True)]  # fmt: skip
    return sorted(groups, key=lambda places: int(places[0]))
