"""Writing RecordIO files, byte for byte as mxnet does. Source: dmlc-core ``src/recordio.cc``."""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self

from facerec.errors import DataError
from facerec.fsio import fsync_folder

__all__ = ["LENGTH_BITS", "MAGIC", "MAGIC_BYTES", "RecordWriter", "aligned_magics", "frame_record"]

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
LENGTH_BITS = 29


class RecordWriter:
    """Writes records and their index under temporary names; `close` makes both files appear.

    Use as a context manager: when the block fails, neither file appears.
    """

    def __init__(self, rec_path: Path | str, idx_path: Path | str | None = None) -> None:
        """Begin two files; nothing that exists is written over.

        Raises:
            DataError: one of the files exists already.
        """
        self._rec_path = Path(rec_path)
        self._idx_path = Path(idx_path) if idx_path is not None else self._rec_path.with_suffix(".idx")
        for path in (self._rec_path, self._idx_path):
            if path.exists():
                raise DataError(f"{path} exists already; remove it or write to another folder")
        self._partial = [path.with_name(f".partial-{path.name}") for path in (self._rec_path, self._idx_path)]
        self._rec = open(self._partial[0], "wb")  # noqa: SIM115 - closed by close()
        self._idx = open(self._partial[1], "w", encoding="ascii", newline="\n")  # noqa: SIM115
        self._offset = 0
        self._keys = array("q")
        self._known: set[int] | None = None
        """The keys once more, as soon as one does not ascend: a set takes ten times the memory."""

    def write(self, key: int, payload: bytes) -> int:
        """Append one record; returns its offset.

        Raises:
            DataError: the key is negative or was used already, or the payload has 2^29 bytes or more.
        """
        if key < 0 or self._is_known(key):
            raise DataError(f"{self._rec_path}: key {key} is negative or was written already")
        if len(payload) >= 1 << LENGTH_BITS:
            raise DataError(f"{self._rec_path}: record {key} has {len(payload)} bytes; at most 2^29 - 1 fit")
        start = self._offset
        framed = frame_record(payload)
        self._rec.write(framed)
        self._offset += len(framed)
        self._idx.write(f"{key}\t{start}\n")
        self._keys.append(key)
        if self._known is not None:
            self._known.add(key)
        return start

    def close(self) -> None:
        """Make both files durable and give them their names; safe to call again."""
        if self._rec.closed:
            return
        for stream in (self._rec, self._idx):
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        for partial, path in zip(self._partial, (self._rec_path, self._idx_path), strict=True):
            os.replace(partial, path)
        fsync_folder(self._rec_path.parent)

    def abandon(self) -> None:
        """Throw away what was written."""
        for stream in (self._rec, self._idx):
            stream.close()
        for partial in self._partial:
            partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _is_known(self, key: int) -> bool:
        if self._known is None:
            if not self._keys or key > self._keys[-1]:
                return False
            self._known = set(self._keys)
        return key in self._known


def frame_record(payload: bytes) -> bytes:
    """A record as it stands in a ``.rec``: in several parts where the payload holds the magic at an aligned place.

    Raises:
        DataError: the payload has 2^29 bytes or more.
    """
    if len(payload) >= 1 << LENGTH_BITS:
        raise DataError(f"a record has {len(payload)} bytes; at most 2^29 - 1 fit into one")
    cuts = aligned_magics(payload)
    begins = [0, *(cut + 4 for cut in cuts)]
    ends = [*cuts, len(payload)]
    pieces: list[bytes] = []
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        flag = 0 if not cuts else 1 if number == 0 else 3 if number == len(cuts) else 2
        length = end - begin
        pieces += [struct.pack("<II", MAGIC, flag << LENGTH_BITS | length), payload[begin:end], b"\0" * (-length % 4)]
    return b"".join(pieces)


def aligned_magics(payload: bytes) -> list[int]:
    """Places, multiples of 4, at which the payload holds the magic."""
    cuts = []
    place = payload.find(MAGIC_BYTES)
    while place >= 0:
        # The magic's bytes differ from each other, so occurrences cannot overlap.
        if place % 4 == 0:
            cuts.append(place)
        place = payload.find(MAGIC_BYTES, place + 4 if place % 4 == 0 else place + 1)
    return cuts
