"""Several packs as one training set: their images one after the other, their identities beside each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.dataset import ImagePack
from facerec.data.orders import Groups
from facerec.data.pack import Faces
from facerec.errors import DataError

__all__ = ["JoinedPacks"]


class JoinedPacks:
    """An `ImagePack` of several, with one range of classes: no identity of one pack is one of another's.

    A key here is the pack's own key plus the largest keys of the packs before it; `describe` and `name_of` give the
    pack and its own key back, and every message has these.
    """

    def __init__(self, packs: Sequence[ImagePack], roots: Sequence[str]) -> None:
        assert len(packs) == len(roots) > 0, "one root for each pack"
        self.packs = tuple(packs)
        self.names = _short_names(roots)
        """What each pack is called in messages."""
        self._first_places = _starts([pack.num_images for pack in packs])
        self._first_classes = _starts([pack.num_classes for pack in packs])
        self._first_keys = _starts([1 + int(pack.keys_at(np.array([pack.num_images - 1]))[0]) for pack in packs])

    @property
    def num_images(self) -> int:
        """Images of all packs."""
        return int(self._first_places[-1])

    @property
    def num_classes(self) -> int:
        """Identities of all packs."""
        return int(self._first_classes[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images of each pack."""
        return tuple(pack.num_images for pack in self.packs)

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width where all packs state the same."""
        sizes = {pack.image_hw for pack in self.packs}
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def fingerprint(self) -> str:
        """A hash that changes with the data of any pack, and with their order."""
        return hashlib.sha256("\n".join(pack.fingerprint for pack in self.packs).encode()).hexdigest()

    def keys_at(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The keys of the images at places in [0, N)."""
        keys = np.empty(len(places), dtype=np.int64)
        for number, rows in _by_pack(self._first_places, places):
            own = places[rows] - self._first_places[number]
            keys[rows] = self.packs[number].keys_at(own) + self._first_keys[number]
        return keys

    def read_faces(self, keys: NDArray[np.int64], *, faults: dict[int, DataError] | None = None) -> Faces:
        """Images and classes of many keys; see `FacePack.read_faces`."""
        images: list[bytes | memoryview] = [b""] * len(keys)
        classes = np.zeros(len(keys), dtype=np.int64)
        for number, rows in _by_pack(self._first_keys, keys):
            own: dict[int, DataError] | None = None if faults is None else {}
            faces = self.packs[number].read_faces(keys[rows] - self._first_keys[number], faults=own)
            classes[rows] = faces.classes + self._first_classes[number]
            for row, image in zip(rows.tolist(), faces.images, strict=True):
                images[row] = image
            if faults is not None:
                faults |= {int(rows[row]): error for row, error in (own or {}).items()}
        return Faces(images, classes)

    def describe(self, key: int) -> str:
        """Where a record is: its pack's file, its key there and its byte offset."""
        number, own = self._own_key(key)
        return self.packs[number].describe(own)

    def name_of(self, key: int) -> str:
        """A short name of a record: its pack and its key there."""
        number, own = self._own_key(key)
        return f"{self.names[number]}:{own}"

    def groups(self) -> Groups:
        """The places of each identity's images."""
        parts = [pack.groups() for pack in self.packs]
        places = [part.places + first for part, first in zip(parts, self._first_places[:-1], strict=True)]
        starts = [part.starts[:-1] + first for part, first in zip(parts, self._first_places[:-1], strict=True)]
        return Groups(np.concatenate(places), np.append(np.concatenate(starts), self.num_images))

    def _own_key(self, key: int) -> tuple[int, int]:
        number = int(self._first_keys.searchsorted(key, side="right")) - 1
        return number, key - int(self._first_keys[number])


def _starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Where each begins, and where the last one ends."""
    return np.array(list(accumulate(sizes, initial=0)), dtype=np.int64)


def _by_pack(starts: NDArray[np.int64], values: NDArray[np.integer[Any]]) -> list[tuple[int, NDArray[np.int64]]]:
    """The rows of the values that lie in each range."""
    numbers = starts.searchsorted(values, side="right") - 1
    return [(int(number), np.flatnonzero(numbers == number)) for number in np.unique(numbers)]


def _short_names(roots: Sequence[str]) -> tuple[str, ...]:
    names = [Path(root).name or root for root in roots]
    return tuple(name if names.count(name) == 1 else root for name, root in zip(names, roots, strict=True))
