"""The bytes of a ``.rec``: mapped into memory, or read by ``pread``."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facerec.data.record_parts import RecordFault
from facerec.errors import MissingPathError

__all__ = ["RecordFile"]

_LONGEST_ANNOUNCEMENT = 1 << 20


class RecordFile:
    """An open file without a position; what is asked for past its end is left out."""

    def __init__(self, path: Path, *, io: Literal["mmap", "pread"]) -> None:
        """Open a file.

        Raises:
            MissingPathError: it does not exist or cannot be read.
        """
        self.path = path
        self.map: mmap.mmap | None = None
        self.view: memoryview = memoryview(b"")
        """The map, for parts that are not copied; empty without a map."""
        self.words: NDArray[np.uint32] | None = None
        """The map as 32-bit words."""
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
            if io == "mmap" and self.size:
                self._map_whole()
        except OSError as error:
            self.close()
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise MissingPathError(f"record file {path} {reason}; check data.root") from error

    def _map_whole(self) -> None:
        self.map = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ)
        self.view = memoryview(self.map)
        self.words = np.frombuffer(self.map, dtype="<u4", count=self.size // 4)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; safe to call again."""
        self.words, self.view = None, memoryview(b"")
        mapped, self.map = getattr(self, "map", None), None
        if mapped is not None:
            # Somebody still holds a part of the map: it goes with the last of them.
            with contextlib.suppress(BufferError):
                mapped.close()
        descriptor, self._descriptor = getattr(self, "_descriptor", -1), -1
        if descriptor >= 0:
            os.close(descriptor)

    def fetch(self, start: int, length: int) -> bytes:
        """The bytes from ``start`` on, fewer where the file ends.

        Raises:
            RecordFault: the system cannot read them.
            ValueError: the file is closed.
        """
        if self.map is not None:
            return self.map[start : start + length]
        if self._descriptor < 0:
            raise ValueError(f"the reader of {self.path} is closed")
        chunks = []
        try:
            # A read may give less than it was asked for, on a network file system above all.
            while length > 0 and (chunk := os.pread(self._descriptor, length, start)):
                chunks.append(chunk)
                start, length = start + len(chunk), length - len(chunk)
        except OSError as error:
            raise RecordFault(f"cannot be read: {error.strerror}") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def fetch_or_nothing(self, start: int, length: int) -> bytes:
        """Like `fetch`, but empty where that fails: who needs the bytes fetches them again, and reports."""
        try:
            return self.fetch(start, length)
        except RecordFault:
            return b""

    def words_at(self, offsets: NDArray[np.int64], count: int) -> NDArray[np.uint32]:
        """32-bit words from each offset on.

        Shape: ``offsets`` (places,); result (places, count), zeros where there is nothing to read.
        """
        words = self.words
        if words is None or not len(words):
            # As below, where the file is mapped: nothing at places that are no multiple of 4.
            sizes = np.where(offsets % 4 == 0, 4 * count, 0).tolist()
            read = map(self.fetch_or_nothing, offsets.tolist(), sizes)
            return np.frombuffer(b"".join(row.ljust(4 * count, b"\0") for row in read), dtype="<u4").reshape(-1, count)
        places = offsets[:, None] // 4 + np.arange(count)
        # A record starts at a multiple of 4; the index alone can say otherwise.
        valid = (places < len(words)) & (offsets[:, None] % 4 == 0)
        return np.where(valid, words[np.minimum(places, len(words) - 1)], np.uint32(0))

    def announce(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Let the system fetch several spans at the same time, before they are read one by one."""
        if self._descriptor < 0 or not hasattr(os, "posix_fadvise"):
            return
        lengths: Any = np.clip(ends - begins, 0, _LONGEST_ANNOUNCEMENT).tolist()
        for begin, length in zip(begins.tolist(), lengths, strict=True):
            os.posix_fadvise(self._descriptor, begin, length, os.POSIX_FADV_WILLNEED)
