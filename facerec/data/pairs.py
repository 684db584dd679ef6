"""Verification pair sets (``.bin``), read without ever unpickling."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.pickles import UnsafePickleError, read_pickle
from facerec.errors import MissingPathError, PairSetError
from facerec.fsio import atomic_write_bytes

__all__ = ["MAX_BYTES", "PairSet", "read_pairs", "write_pairs"]

MAX_BYTES = 1 << 32
"""Largest pair set that is read; the largest published one has 80 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class PairSet:
    """Image pairs; pair ``i`` is ``images[2 * i]`` and ``images[2 * i + 1]``, encoded."""

    name: str
    images: tuple[bytes, ...]
    issame: NDArray[np.bool_]
    """(pairs,), True for a genuine pair."""
    sha256: str
    """Of the file; two sets of the same name are not the same set."""
    path: Path

    @property
    def num_pairs(self) -> int:
        """The number of pairs."""
        return len(self.issame)

    @property
    def num_genuine(self) -> int:
        """The number of genuine pairs."""
        return int(self.issame.sum())


def read_pairs(path: Path | str, *, name: str | None = None) -> PairSet:
    """Read a pair set: a pickle of ``(images, issame)``, interpreted and never unpickled.

    Images may be bytes, Python-2 strings or uint8 arrays; truth values may be bool, 0 and 1, numpy bools or an array;
    the pair may be a list, and a third element between the two is passed over.

    Raises:
        MissingPathError: the file does not exist or cannot be read.
        PairSetError: it is damaged, contradicts itself, or asks to run code; nothing is run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise PairSetError(f"{path} is no regular file; name a .bin")
        if size > MAX_BYTES:
            raise PairSetError(f"{path} has {size} bytes; a pair set has at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise MissingPathError(f"pair set {path} {reason}; check the path") from error
    try:
        content = read_pickle(data)
    except UnsafePickleError as error:
        raise PairSetError(f"{path} is refused as a pair set: {error}") from error
    images, issame = _take_apart(content, path, limit=size)
    return PairSet(name or path.stem, images, issame, hashlib.sha256(data).hexdigest(), path)


def write_pairs(path: Path | str, images: Sequence[bytes], issame: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Write a pair set that every reader of ``.bin`` files takes: ``pickle((list of bytes, list of bool))``.

    Raises:
        PairSetError: there are not two images for each truth value, or an image is empty.
    """
    if len(images) != 2 * len(issame):
        raise PairSetError(f"{path}: {len(images)} images do not make {len(issame)} pairs")
    if not all(images):
        raise PairSetError(f"{path}: image {[len(image) for image in images].index(0)} is empty; it would be no pair")
    content = ([bytes(image) for image in images], [bool(same) for same in issame])
    atomic_write_bytes(Path(path), pickle.dumps(content, protocol=4))


def _take_apart(content: Any, path: Path, *, limit: int) -> tuple[tuple[bytes, ...], NDArray[np.bool_]]:
    if not isinstance(content, (tuple, list)) or len(content) not in (2, 3):
        raise PairSetError(f"{path} is no pair set: it must hold (images, issame)")
    images, issame = content[0], content[-1]
    if not isinstance(images, (list, tuple)):
        raise PairSetError(f"{path} is no pair set: its images must be a list")
    truths = _truths(issame, path)
    if not len(truths):
        raise PairSetError(f"{path} holds no pairs")
    if len(images) != 2 * len(truths):
        raise PairSetError(f"{path} contradicts itself: {len(images)} images for {len(truths)} pairs, not two for each")
    return _images(images, path, limit=limit), truths


def _truths(values: Any, path: Path) -> NDArray[np.bool_]:
    items = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(items, (list, tuple)):
        raise PairSetError(f"{path} is no pair set: issame must be a list of truth values")
    for index, value in enumerate(items):
        if not (isinstance(value, (bool, int)) and value in (0, 1)):
            raise PairSetError(f"{path}: issame number {index} is {_shown(value)}, not true or false")
    return np.array(items, dtype=bool)


def _shown(value: Any) -> str:
    # Text of lists that hold each other can be longer than any memory.
    return str(value) if isinstance(value, (bool, int)) else f"of type {type(value).__name__}"


def _images(values: Sequence[Any], path: Path, *, limit: int) -> tuple[bytes, ...]:
    """All images as bytes; arrays may give ``limit`` bytes together, for many of them can name the same content."""
    copies: dict[int, bytes] = {}
    for index, value in enumerate(values):
        if isinstance(value, np.ndarray) and id(value) not in copies:
            limit -= value.nbytes
            if limit < 0:
                raise PairSetError(f"{path} is refused as a pair set: its images have more bytes than the file")
            copies[id(value)] = _image_bytes(value, index, path)
    images = tuple(copies.get(id(value)) or _image_bytes(value, index, path) for index, value in enumerate(values))
    if not all(images):
        empty = images.index(b"")
        raise PairSetError(
            f"{path}: image {empty} (of pair {empty // 2}) is empty; write the set again without that pair"
        )
    return images


def _image_bytes(value: Any, index: int, path: Path) -> bytes:
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and (value.ndim == 1 or value.shape[1:] == (1,)):
        return value.tobytes()
    if not isinstance(value, bytes):
        kind = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PairSetError(f"{path}: image {index} is {kind}, not encoded bytes")
    return value
