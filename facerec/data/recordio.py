"""Reading RecordIO files by key (``.rec`` with its ``.idx``).

A record is ``u32 magic, u32 cflag << 29 | length, payload, padding to 4 bytes``, little-endian. A payload that holds
the magic at an aligned place is stored in parts (cflag 1, 2…, 3) between which the reader puts the magic back.
Source: dmlc-core ``src/recordio.cc``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import ImageRecord, build_image_record, parse_image_record
from facerec.data.index import open_index
from facerec.data.record_parts import (
    HEADER_BYTES,
    PADDING,
    RecordFault,
    check_what_follows,
    find_parts,
    starts_record,
    unpack_header,
)
from facerec.data.record_writer import MAGIC, MAGIC_BYTES, RecordWriter
from facerec.errors import MissingPathError, RecordError

__all__ = ["ImageRecord", "RecordReader", "RecordWriter", "build_image_record", "parse_image_record"]

_SAMPLED_PLACES = 16
_LONGEST_SINGLE_READ = 1 << 20
"""Bytes that one ``pread`` asks for before the length of the record is known."""


class RecordReader:
    """Random access to the records of a ``.rec`` by key.

    Safe under fork and when pickled: a process maps the file anew where it has to, and nothing holds a position. Every
    reading checks the record against its neighbours in the index, so that a damaged length is noticed.

    A file that is cut off while it is mapped kills the process (SIGBUS), as with every memory map; where that can
    happen, on a network file system above all, ``io="pread"`` reports it.
    """

    def __init__(
        self,
        rec_path: Path | str,
        *,
        idx_path: Path | str | None = None,
        io: Literal["mmap", "pread"] = "mmap",
        check: bool = True,
    ) -> None:
        """Open a record file; ``check`` compares index and file at some places.

        Raises:
            MissingPathError: the ``.rec`` or the ``.idx`` does not exist or cannot be opened.
            DataError: the index is damaged.
            RecordError: the index belongs to another file, or the file is truncated.
        """
        self.rec_path = Path(rec_path)
        self.idx_path = Path(idx_path) if idx_path is not None else self.rec_path.with_suffix(".idx")
        self.io = io
        self._open_file()
        try:
            self.index = open_index(self.idx_path)
            self._prepare()
            if check:
                self._check_index()
        except BaseException:
            self.close()
            raise

    def _open_file(self) -> None:
        self._map: mmap.mmap | None = None
        self._fd = -1
        try:
            self._fd = os.open(self.rec_path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size
            if self.io == "mmap" and self.size:
                self._map = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
        except OSError as error:
            self.close()
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise MissingPathError(f"record file {self.rec_path} {reason}; check data.root") from error

    def _prepare(self) -> None:
        self.keys: NDArray[np.int64] = self.index.keys
        self.offsets: NDArray[np.int64] = self.index.offsets
        # A memoryview gives plain integers, several times faster than an array.
        self._offset_at, self._following_at = self.offsets.data, self.index.following.data
        self._num_records = len(self.keys)
        self._first_key = int(self.keys[0])
        self._is_dense = int(self.keys[-1]) - self._first_key + 1 == self._num_records

    def __len__(self) -> int:
        return self._num_records

    def __getstate__(self) -> dict[str, Any]:
        # An index that is no map cannot be opened again in a moment, so it goes along.
        index = None if self.index.is_mapped else self.index
        identity = (self.size, self.index.sha256)
        return {"paths": (self.rec_path, self.idx_path), "io": self.io, "index": index, "identity": identity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rec_path, self.idx_path = state["paths"]
        self.io = state["io"]
        self._open_file()
        self.index = state["index"] or open_index(self.idx_path)
        self._prepare()
        if (self.size, self.index.sha256) != state["identity"]:
            self.close()
            raise RecordError(f"{self.rec_path} or its index has changed since it was opened; start again")

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
        return self._offset_at[self._position_of(key)]

    def _position_of(self, key: int) -> int:
        position = key - self._first_key if self._is_dense else int(self.keys.searchsorted(key))
        if 0 <= position < self._num_records and (self._is_dense or self.keys[position] == key):
            return position
        raise RecordError(f"{self.idx_path} has no key {key}", key=int(key))

    def read(self, key: int) -> bytes:
        """The payload of one record, its parts joined.

        Raises:
            RecordError: the key is unknown or the record is damaged; names key and offset.
            ValueError: the reader is closed.
        """
        return self._read_at(self._position_of(key))

    def read_many(self, keys: Iterable[int]) -> list[bytes]:
        """The payloads of several records, in the order of ``keys``; see `read`."""
        wanted = np.asarray(keys if isinstance(keys, np.ndarray) else list(keys), dtype=np.int64)
        positions = wanted - self._first_key if self._is_dense else np.searchsorted(self.keys, wanted)
        inside = (positions >= 0) & (positions < self._num_records)
        if not inside.all() or (self.keys[positions] != wanted).any():
            return [self.read(key) for key in wanted.tolist()]  # One of these raises and names the key.
        read_at = self._read_at
        return [read_at(position) for position in positions.tolist()]

    def _read_at(self, position: int) -> bytes:
        offset, following = self._offset_at[position], self._following_at[position]
        content, start = self._map, offset
        if content is None:
            content, start = self._read_ahead(offset, min(following - offset, _LONGEST_SINGLE_READ)), 0
        # A whole record that ends where the next one starts; everything else takes the slow way.
        begin, end = start + HEADER_BYTES, start + following - offset
        if begin <= end <= len(content):
            magic, length = unpack_header(content, start)
            stop = begin + length
            if magic == MAGIC and end - 4 < stop <= end and content[stop:end] == PADDING[length & 3]:
                return content[begin:stop]
        return self._read_slowly(position)

    def _read_slowly(self, position: int) -> bytes:
        offset, limit = self._offset_at[position], min(self._following_at[position], self.size)
        try:
            return self._joined(offset, limit)
        except RecordFault as fault:
            # Where no record starts at the limit, the index is wrong about the next record, not this one about its end.
            if limit < self.size and not starts_record(self._fetch, limit):
                with contextlib.suppress(RecordFault):
                    return self._joined(offset, self.size)
            raise self._error(position, str(fault)) from fault

    def _joined(self, offset: int, limit: int) -> bytes:
        spans, end = find_parts(self._fetch, offset, limit=limit, size=self.size)
        check_what_follows(self._fetch, spans, end, limit=limit)
        return MAGIC_BYTES.join([self._fetch(begin, stop - begin) for begin, stop in spans])

    def first_words(self, offsets: NDArray[np.int64], count: int) -> NDArray[np.uint32]:
        """The first 32-bit words of many records at once, unchecked: magic, flag and length, and then the payload.

        Shape: ``offsets`` (records,); result (records, count), zeros where there is nothing to read.
        """
        if self._map is None:
            rows = [self._read_ahead(offset, 4 * count).ljust(4 * count, b"\0") for offset in offsets.tolist()]
            return np.frombuffer(b"".join(rows), dtype="<u4").reshape(-1, count)
        words = np.frombuffer(self._map, dtype="<u4", count=self.size // 4)
        places = offsets[:, None] // 4 + np.arange(count)
        # A record starts at a multiple of 4; the index alone can say otherwise.
        valid = (places < len(words)) & (offsets[:, None] % 4 == 0)
        return np.where(valid, words[np.minimum(places, len(words) - 1)], np.uint32(0))

    def _fetch(self, start: int, length: int) -> bytes:
        return self._map[start : start + length] if self._map is not None else self._pread(start, length)

    def _pread(self, start: int, length: int) -> bytes:
        if self._fd < 0:
            raise ValueError(f"the reader of {self.rec_path} is closed")
        chunks = []
        try:
            # A read may give less than it was asked for, on a network file system above all.
            while length > 0 and (chunk := os.pread(self._fd, length, start)):
                chunks.append(chunk)
                start, length = start + len(chunk), length - len(chunk)
        except OSError as error:
            raise RecordFault(f"cannot be read: {error.strerror}") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_ahead(self, start: int, length: int) -> bytes:
        """Like `_pread`, but empty where reading fails: whoever needs the bytes reads them again, and reports."""
        try:
            return self._pread(start, length)
        except RecordFault:
            return b""

    def _check_index(self) -> None:
        """Whether records start where the index says, at its ends and at some places between."""
        last = self.index.last_position
        if self._offset_at[last] + HEADER_BYTES > self.size:
            problem = f"lies past the end of the file ({self.size} bytes): the file is truncated"
            raise self._error(last, f"{problem}, or {self.idx_path} belongs to another file")
        places = np.unique(np.linspace(0, self._num_records - 1, _SAMPLED_PLACES).astype(np.int64))
        # Any file has a record at its first byte.
        places = places[self.offsets[places] > 0]
        wrong = places[self.first_words(self.offsets[places], 1)[:, 0] != MAGIC]
        # Single damaged records are reported when they are read.
        if len(wrong) and 2 * len(wrong) >= len(places):
            raise self._error(int(wrong[0]), f"does not start there: {self.idx_path} belongs to another file")
        try:
            find_parts(self._fetch, self._offset_at[last], limit=self.size, size=self.size)
        except RecordFault as fault:
            if fault.is_cut_off:
                raise self._error(last, str(fault)) from fault

    def _error(self, position: int, problem: str) -> RecordError:
        key, offset = int(self.keys[position]), int(self.offsets[position])
        return RecordError(f"{self.rec_path}: record {key} at byte {offset} {problem}", key=key, offset=offset)
