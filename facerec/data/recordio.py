"""Reading and writing RecordIO files (``.rec`` with its ``.idx``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import ImageRecord, build_image_record, parse_image_record

__all__ = ["ImageRecord", "RecordReader", "RecordWriter", "build_image_record", "parse_image_record"]


class RecordReader:
    """Random access to the records of a ``.rec`` by key; safe under fork, spawn and pickling."""

    def __init__(
        self, rec_path: Path | str, *, idx_path: Path | str | None = None, io: Literal["mmap", "pread"] = "mmap"
    ) -> None:
        raise NotImplementedError

    keys: NDArray[np.int64]
    """(records,) all keys, ascending."""
    offsets: NDArray[np.int64]
    """(records,) ``offsets[i]`` is where the record ``keys[i]`` starts."""

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, key: int) -> bytes:
        """The payload of one record, its parts joined; RecordError with key and offset otherwise."""
        raise NotImplementedError

    def read_many(self, keys: Iterable[int]) -> list[bytes]:
        """The payloads of several records, in the order of ``keys``."""
        raise NotImplementedError

    def read_at_offset(self, offset: int) -> bytes:
        """The payload of the record that starts at ``offset``."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the file back; the next read opens it again."""


class RecordWriter:
    """Writes records byte for byte as mxnet does; use as a context manager."""

    def __init__(self, rec_path: Path | str, idx_path: Path | str | None = None) -> None:
        raise NotImplementedError

    def write(self, key: int, payload: bytes) -> int:
        """Append one record; returns its offset."""
        raise NotImplementedError

    def close(self) -> None:
        """Give both files their final names."""
