"""Reading RecordIO files by key (``.rec`` with its ``.idx``).

A record is ``u32 magic, u32 cflag << 29 | length, payload, padding to 4 bytes``, little-endian. A payload that holds
the magic at an aligned place is stored in parts (cflag 1, 2…, 3) between which the reader puts the magic back.
Source: dmlc-core ``src/recordio.cc``.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import ImageRecord, build_image_record, parse_image_record
from facerec.data.index import open_index
from facerec.data.record_writer import LENGTH_BITS, MAGIC, MAGIC_BYTES, RecordWriter
from facerec.errors import MissingPathError, RecordError

__all__ = ["ImageRecord", "RecordReader", "RecordWriter", "build_image_record", "parse_image_record"]

_LENGTH_MASK = (1 << LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<II")
_PREAD_HINT = 16384
"""Bytes of the first read of a record by ``pread``; most face pictures fit."""


class RecordReader:
    """Random access to the records of a ``.rec`` by key.

    Safe under fork and when pickled: a process maps the file anew where it has to, and nothing holds a position.
    """

    def __init__(
        self, rec_path: Path | str, *, idx_path: Path | str | None = None, io: Literal["mmap", "pread"] = "mmap"
    ) -> None:
        """Open a record file.

        Raises:
            MissingPathError: the ``.rec`` or the ``.idx`` does not exist or cannot be opened.
            DataError: the index is damaged.
            RecordError: the index belongs to another file, or the file is truncated.
        """
        self.rec_path = Path(rec_path)
        self.idx_path = Path(idx_path) if idx_path is not None else self.rec_path.with_suffix(".idx")
        self.io = io
        self._open()
        self._check_index()

    def _open(self) -> None:
        try:
            self._fd = os.open(self.rec_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise MissingPathError(f"record file {self.rec_path} {reason}; check data.root") from error
        self.size = os.fstat(self._fd).st_size
        self._map = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ) if self.io == "mmap" and self.size else None
        try:
            self.index = open_index(self.idx_path)
        except BaseException:
            self.close()
            raise
        self.keys: NDArray[np.int64] = self.index.keys
        self.offsets: NDArray[np.int64] = self.index.offsets
        self._first_key = int(self.keys[0])
        self._is_dense = int(self.keys[-1]) - self._first_key + 1 == len(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {"rec_path": self.rec_path, "idx_path": self.idx_path, "io": self.io}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; safe to call again."""
        if getattr(self, "_map", None) is not None:
            self._map.close()  # type: ignore[union-attr]
            self._map = None
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1

    def offset_of(self, key: int) -> int:
        """Where the record of ``key`` starts.

        Raises:
            RecordError: there is no such key.
        """
        if self._is_dense:
            position = key - self._first_key
            if 0 <= position < len(self.keys):
                return int(self.offsets[position])
        else:
            position = int(np.searchsorted(self.keys, key))
            if position < len(self.keys) and self.keys[position] == key:
                return int(self.offsets[position])
        raise RecordError(f"{self.idx_path} has no key {key}", key=key)

    def read(self, key: int) -> bytes:
        """The payload of one record, its parts joined.

        Raises:
            RecordError: the key is unknown or the record is damaged; names key and offset.
        """
        return self.read_at_offset(self.offset_of(key), key=key)

    def read_many(self, keys: Iterable[int]) -> list[bytes]:
        """The payloads of several records, in the order of ``keys``; see `read`."""
        wanted = np.asarray(keys if isinstance(keys, np.ndarray) else list(keys), dtype=np.int64)
        positions = wanted - self._first_key if self._is_dense else np.searchsorted(self.keys, wanted)
        inside = (positions >= 0) & (positions < len(self.keys))
        if not inside.all() or (self.keys[positions] != wanted).any():
            return [self.read(int(key)) for key in wanted]  # One of these raises and names the key.
        offsets = self.offsets[positions].tolist()
        view, size = self._map, self.size
        if view is None:
            return [self.read_at_offset(offset, key=key) for offset, key in zip(offsets, wanted.tolist(), strict=True)]
        payloads: list[bytes] = []
        unpack = _HEADER.unpack_from
        for position, offset in enumerate(offsets):
            end = offset + 8
            if end <= size:
                magic, length = unpack(view, offset)
                if magic == MAGIC and length <= _LENGTH_MASK and end + length <= size:
                    payloads.append(view[end : end + length])
                    continue
            payloads.append(self.read_at_offset(offset, key=int(wanted[position])))
        return payloads

    def read_at_offset(self, offset: int, *, key: int | None = None) -> bytes:
        """The payload of the record that starts at ``offset``; ``key`` names it in messages.

        Raises:
            RecordError: no intact record starts there.
        """
        flag, payload, following = self._read_part(offset, offset, key)
        if flag == _WHOLE:
            return payload
        if flag != _FIRST:
            raise self._error(key, offset, "starts in the middle of a multi-part record")
        parts = [payload]
        while flag != _LAST:
            flag, payload, following = self._read_part(following, offset, key)
            if flag not in (_MIDDLE, _LAST):
                raise self._error(
                    key, offset, f"is cut off: its next part at byte {following} belongs to another record"
                )
            parts.append(payload)
        return MAGIC_BYTES.join(parts)

    def part_flag(self, offset: int) -> int:
        """The continuation flag of the part at ``offset``: 0 whole, 1 first, 2 middle, 3 last."""
        header = self._bytes(offset, 8)
        return _HEADER.unpack(header)[1] >> LENGTH_BITS if len(header) == 8 else _WHOLE

    def _read_part(self, start: int, offset: int, key: int | None) -> tuple[int, bytes, int]:
        """Flag and payload of the part at ``start``, and where the next part begins."""
        chunk = self._bytes(start, 8 if self._map is not None else _PREAD_HINT)
        if len(chunk) < 8:
            raise self._error(key, offset, "is cut off: the file ends in its header")
        magic, word = _HEADER.unpack_from(chunk)
        if magic != MAGIC:
            raise self._error(key, offset, f"is damaged: no record starts at byte {start}")
        length = word & _LENGTH_MASK
        end = start + 8 + length
        if start + 8 > self.size or end > self.size:
            raise self._error(
                key, offset, f"is cut off: it needs {length} bytes, the file ends {end - self.size} short"
            )
        payload = chunk[8 : 8 + length] if len(chunk) >= 8 + length else self._bytes(start + 8, length)
        return word >> LENGTH_BITS, payload, end + (-length % 4)

    def _bytes(self, start: int, length: int) -> bytes:
        if self._map is not None:
            return self._map[start : start + length]
        if self._fd < 0 or start < 0:
            return b""
        # A read may give less than it was asked for, on a network file system above all.
        chunks = []
        while length > 0 and (chunk := os.pread(self._fd, length, start)):
            chunks.append(chunk)
            start, length = start + len(chunk), length - len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_index(self) -> None:
        """Whether records start where the index says, at its ends and at some places between."""
        places = np.unique(np.linspace(0, len(self.keys) - 1, 16).astype(np.int64)).tolist()
        for position in [*places, int(np.argmax(self.offsets))]:
            key, offset = int(self.keys[position]), int(self.offsets[position])
            header = self._bytes(offset, 8)
            if offset + 8 > self.size:
                self.close()
                problem = f"lies past the end of the file ({self.size} bytes): the file is truncated"
                raise self._error(key, offset, f"{problem}, or {self.idx_path} belongs to another file")
            if _HEADER.unpack(header)[0] != MAGIC:
                self.close()
                raise self._error(key, offset, f"does not start there: {self.idx_path} belongs to another file")
        try:
            # The record that lies last is read whole: a file that was cut off ends inside it.
            self.read_at_offset(offset, key=key)
        except RecordError:
            self.close()
            raise

    def _error(self, key: int | None, offset: int, problem: str) -> RecordError:
        name = "record" if key is None else f"record {key}"
        return RecordError(f"{self.rec_path}: {name} at byte {offset} {problem}", key=key, offset=offset)
