"""The index of a record file: which key starts at which byte.

The text ``.idx`` (``key<TAB>offset`` per line) is parsed once; a binary copy beside it, which all processes map into
the same memory, makes every later opening immediate. A record takes 8 bytes where the keys have no gaps, as in every
pack of the field; 4 more where they have (8 where keys lie 2^32 or more apart); and 4 more where the order of the keys
is not the order in the file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.index_text import parse_index, sort_rows
from facerec.errors import DataError, MissingPathError
from facerec.fsio import atomic_write_bytes

__all__ = ["NO_RECORD_FOLLOWS", "RecordIndex", "open_index"]

NO_RECORD_FOLLOWS = (1 << 63) - 1
"""What `RecordIndex.following` says of the record that lies last."""

_VERSION = 4
_FIELDS = 16
_HEADER_BYTES = 8 * _FIELDS
_STAMP, _SAMPLE, _CHECKSUM, _DIGEST = slice(0, 4), 4, 5, slice(11, 15)
_COUNT, _KEY_BYTES, _HAS_EXTENTS, _FIRST_KEY, _LAST_POSITION = range(6, 11)
_KEY_TYPES: dict[int, Any] = {4: np.uint32, 8: np.int64}
_UNKNOWN_EXTENT = (1 << 32) - 1
"""No record follows, or none within four gigabytes."""
_SAMPLE_BLOCK, _SAMPLE_BLOCKS = 4096, 16


class RecordIndex:
    """Keys, ascending and without repeats, and where each record starts; picklable.

    Everything lies in one block of bytes: a header of 16 int64; the offsets, int64, and behind them the end of the
    last record, which nobody knows; the keys relative to the first one, uint32 or int64, where these have gaps; and
    the bytes from each record to the next one in the file, uint32, where that is not the next one in the block.
    """

    def __init__(self, content: NDArray[np.uint8], *, is_mapped: bool = False) -> None:
        self._content = content
        header = content[:_HEADER_BYTES].view(np.int64)
        self.num_records = int(header[_COUNT])
        self.first_key = int(header[_FIRST_KEY])
        self.last_position = int(header[_LAST_POSITION])
        """The row of the record that lies last in the file."""
        self.sha256: str = header[_DIGEST].astype(">i8").tobytes().hex()
        """Of the text file."""
        self.is_mapped = is_mapped
        """Whether the arrays are a map of the binary copy, shared by all processes."""
        offsets, gaps, extents = _sections(content)
        self.offsets: NDArray[np.int64] = offsets[:-1]
        """(records,), bytes, in the order of the keys."""
        self._next_offsets = offsets[1:]
        self._gaps = gaps if len(gaps) else None
        self.has_gaps = self._gaps is not None
        """Whether the keys are more than one range."""
        self._extents = extents if len(extents) else None
        # A memoryview gives plain integers, several times faster than an array.
        self.offset_at: memoryview = offsets.data
        """Offset by row."""
        self._gap_at = gaps.data
        self.extent_at: memoryview | None = extents.data if len(extents) else None
        """Bytes to the next record by row; None where that is the next row's. `following_at` knows both."""

    def __len__(self) -> int:
        return self.num_records

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordIndex, (np.array(self._content),)

    @property
    def num_bytes(self) -> int:
        """Memory of the index; shared by all processes where it is mapped."""
        return len(self._content)

    @functools.cached_property
    def keys(self) -> NDArray[np.int64]:
        """(records,) all keys: made when first asked for, 8 bytes a record in this process alone; see `keys_at`."""
        return self.keys_at(slice(None))

    def keys_at(self, rows: NDArray[np.integer[Any]] | slice) -> NDArray[np.int64]:
        """The keys of some rows."""
        if self._gaps is not None:
            return self._gaps[rows].astype(np.int64) + self.first_key
        if isinstance(rows, slice):
            return np.arange(*rows.indices(self.num_records), dtype=np.int64) + self.first_key
        return rows.astype(np.int64) + self.first_key

    def key_at(self, row: int) -> int:
        """The key of a row."""
        return self.first_key + (row if self._gaps is None else self._gap_at[row])

    def row_of(self, key: int) -> int:
        """The row of a key, -1 where there is none."""
        row = gap = key - self.first_key
        if self._gaps is None:
            return row if 0 <= row < self.num_records else -1
        row = bisect_left(self._gap_at, gap)
        return row if row < self.num_records and self._gap_at[row] == gap else -1

    def rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some keys, -1 where there is none."""
        gaps = keys - self.first_key
        if self._gaps is None:
            return np.where((gaps >= 0) & (gaps < self.num_records), gaps, -1)
        # Searched in its own type: numpy would convert the whole array to the type of what it looks for.
        known = self._gaps
        sought = np.clip(gaps, 0, np.iinfo(known.dtype).max).astype(known.dtype)
        rows = np.minimum(known.searchsorted(sought), self.num_records - 1)
        return np.where(known[rows] == gaps, rows, -1)

    def num_keys_below(self, key: float) -> int:
        """The number of keys below ``key``."""
        return bisect_left(range(self.num_records), key, key=self.key_at)

    def following_at(self, row: int) -> int:
        """Where the record starts that lies next in the file; `NO_RECORD_FOLLOWS` for the last one."""
        if self.extent_at is None:
            return self.offset_at[row + 1]
        extent = self.extent_at[row]
        return NO_RECORD_FOLLOWS if extent == _UNKNOWN_EXTENT else self.offset_at[row] + extent

    def following_of(self, rows: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """`following_at` of some rows."""
        if self._extents is None:
            return self._next_offsets[rows]
        extents = self._extents[rows].astype(np.int64)
        return np.where(extents == _UNKNOWN_EXTENT, NO_RECORD_FOLLOWS, self.offsets[rows] + extents)

    @property
    def following(self) -> NDArray[np.int64]:
        """(records,) `following_at` of every row."""
        return self.following_of(slice(None))


def open_index(path: Path) -> RecordIndex:
    """Open an index, from its binary copy where that is current.

    Raises:
        MissingPathError: the file is not there or cannot be read.
        DataError: a line is not ``key<TAB>offset``, or a key or an offset occurs twice.
    """
    try:
        status = path.stat()
        cache = path.with_name(f"{path.name}.cache")
        content = _read_cache(cache, status)
        if content is not None and _is_current(content, path, status):
            return RecordIndex(content, is_mapped=True)
        text = path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "does not exist" if missing else f"cannot be read ({error.strerror})"
        raise MissingPathError(f"index {path} {reason}; a pack has train.rec, train.idx and property") from error
    digest = hashlib.sha256(text).digest()
    if content is None or _header(content)[_DIGEST].astype(">i8").tobytes() != digest:
        content = _lay_out(*parse_index(text, path), path)
    else:
        content = np.array(content)  # The same text under another date: copied, moved, or touched.
    _stamp(content, digest, path, status)
    _write_cache(cache, content)
    mapped = _read_cache(cache, status)
    if mapped is not None and (_header(mapped) == _header(content)).all():
        return RecordIndex(mapped, is_mapped=True)
    return RecordIndex(content)


def _header(content: NDArray[np.uint8]) -> NDArray[np.int64]:
    return content[:_HEADER_BYTES].view(np.int64)


def _sections(content: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.uint32]]:
    """Offsets, gaps of the keys and extents; the last two are empty where they are not needed."""
    count, key_bytes, has_extents = _header(content)[[_COUNT, _KEY_BYTES, _HAS_EXTENTS]].tolist()
    gaps_at = _HEADER_BYTES + 8 * (count + 1)
    extents_at = gaps_at + key_bytes * count
    offsets = content[_HEADER_BYTES:gaps_at].view(np.int64)
    gaps = content[gaps_at:extents_at].view(_KEY_TYPES.get(key_bytes, np.int64))
    return offsets, gaps, content[extents_at : extents_at + 4 * has_extents * count].view(np.uint32)


def _num_bytes(header: NDArray[np.int64]) -> int:
    count, key_bytes, has_extents = header[[_COUNT, _KEY_BYTES, _HAS_EXTENTS]].tolist()
    if count < 1 or key_bytes not in (0, *_KEY_TYPES) or has_extents not in (0, 1):
        return -1
    return int(_HEADER_BYTES + 8 * (count + 1) + (key_bytes + 4 * has_extents) * count)


def _lay_out(keys: NDArray[np.int64], offsets: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
    count, first_key, spread = len(keys), int(keys[0]), int(keys[-1]) - int(keys[0])
    key_bytes = 0 if spread == count - 1 else 4 if spread < 1 << 32 else 8
    is_sequential = bool((offsets[1:] > offsets[:-1]).all())
    header = np.zeros(_FIELDS, dtype=np.int64)
    header[[_COUNT, _KEY_BYTES, _HAS_EXTENTS, _FIRST_KEY]] = (count, key_bytes, not is_sequential, first_key)
    header[_LAST_POSITION] = count - 1 if is_sequential else offsets.argmax()
    content = np.zeros(_num_bytes(header), dtype=np.uint8)
    content[:_HEADER_BYTES] = header.view(np.uint8)
    all_offsets, gaps, extents = _sections(content)
    all_offsets[:-1], all_offsets[-1] = offsets, NO_RECORD_FOLLOWS
    if key_bytes:
        np.subtract(keys, first_key, out=gaps, casting="unsafe")
    if not is_sequential:
        extents[:] = _extents(keys, offsets, path)
    return content


def _extents(keys: NDArray[np.int64], offsets: NDArray[np.int64], path: Path) -> NDArray[np.uint32]:
    order, ascending = sort_rows(offsets)
    distances = np.diff(ascending)
    repeated = np.flatnonzero(distances == 0)
    if len(repeated):
        one, other = keys[order[repeated[0] : repeated[0] + 2]].tolist()
        raise DataError(f"index {path} gives the keys {one} and {other} one offset; write it again from the .rec")
    extents = np.full(len(offsets), _UNKNOWN_EXTENT, dtype=np.uint32)
    extents[order[:-1]] = np.minimum(distances, _UNKNOWN_EXTENT)
    return extents


def _stamp(content: NDArray[np.uint8], digest: bytes, path: Path, status: os.stat_result) -> None:
    header = _header(content)
    header[_STAMP] = _stamp_of(status)
    header[_SAMPLE] = _sample(path, status.st_size)
    header[_DIGEST] = np.frombuffer(digest, dtype=">i8")
    header[_CHECKSUM] = _checksum(content)


def _stamp_of(status: os.stat_result) -> list[int]:
    # The time of the last change of the inode moves even where a copy keeps the time of the content.
    return [_VERSION, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_current(content: NDArray[np.uint8], path: Path, status: os.stat_result) -> bool:
    """Whether the text is the one that the copy was made of.

    Times have a resolution of milliseconds, so blocks of the text are compared too: all of it where it is short.
    """
    header = _header(content)
    return header[_STAMP].tolist() == _stamp_of(status) and header[_SAMPLE] == _sample(path, status.st_size)


def _sample(path: Path, size: int) -> int:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for number in range(_SAMPLE_BLOCKS):
            stream.seek(max(0, size - _SAMPLE_BLOCK) * number // (_SAMPLE_BLOCKS - 1))
            digest.update(stream.read(_SAMPLE_BLOCK))
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def _read_cache(cache: Path, status: os.stat_result) -> NDArray[np.uint8] | None:
    """The copy of a text of this length, or None. Any doubt about it means that the text is parsed again."""
    with contextlib.suppress(OSError, ValueError):
        content = np.asarray(np.memmap(cache, dtype=np.uint8, mode="r"))
        if len(content) > _HEADER_BYTES:
            header = _header(content)
            is_ours = header[:2].tolist() == _stamp_of(status)[:2] and len(content) == _num_bytes(header)
            if is_ours and header[_CHECKSUM] == _checksum(content):
                return content
    return None


def _write_cache(cache: Path, content: NDArray[np.uint8]) -> None:
    # A read-only folder or a full disk: the next opening parses the text again.
    with contextlib.suppress(OSError):
        atomic_write_bytes(cache, content.tobytes())


def _checksum(content: NDArray[np.uint8]) -> int:
    """Of everything but the checksum itself, four gigabytes in a second. It guards against damage, not malice."""
    header = _header(content).copy()
    header[_CHECKSUM] = 0
    return zlib.crc32(content[_HEADER_BYTES:].data, zlib.crc32(header.tobytes()))
