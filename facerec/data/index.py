"""The index of a record file: which key starts at which byte.

The text ``.idx`` (``key<TAB>offset`` per line) is parsed once; a binary copy beside it, which all processes map into
the same memory, makes every later opening immediate. A record takes 16 bytes, or 24 where the order of the keys is not
the order in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError
from facerec.fsio import atomic_write_bytes

__all__ = ["NO_RECORD_FOLLOWS", "RecordIndex", "open_index"]

NO_RECORD_FOLLOWS = (1 << 63) - 1
"""What `RecordIndex.following` says of the record that lies last."""

_VERSION = 3
_HEADER = 16
"""Leading columns of the table; the first row has the fields below there, the other rows have zeros."""
_STAMP, _SAMPLE, _CHECKSUM, _SHAPE, _DIGEST = slice(0, 4), 4, 5, slice(6, 8), slice(8, 12)
_SAMPLE_BLOCK, _SAMPLE_BLOCKS = 4096, 16
_LARGEST = (1 << 63) - 1
_LINE = np.frombuffer(b"\t\n", dtype=np.uint8)


class RecordIndex:
    """Keys, ascending and without repeats, and where each record starts; picklable.

    Everything lies in one table of int64, (2 or 3, header + records + 1): keys, offsets, and the offsets that follow
    where these are not just the next column of the second row.
    """

    def __init__(self, table: NDArray[np.int64], *, is_mapped: bool = False) -> None:
        self._table = table
        self.keys: NDArray[np.int64] = table[0, _HEADER:-1]
        """(records,)."""
        self.offsets: NDArray[np.int64] = table[1, _HEADER:-1]
        """(records,), bytes."""
        self.following: NDArray[np.int64] = table[1, _HEADER + 1 :] if len(table) == 2 else table[2, _HEADER:-1]
        """(records,) where the record starts that lies next in the file; `NO_RECORD_FOLLOWS` for the last."""
        self.last_position = len(self.keys) - 1 if len(table) == 2 else int(self.offsets.argmax())
        """The row of the record that lies last in the file."""
        self.sha256: str = table[0, _DIGEST].astype(">i8").tobytes().hex()
        """Of the text file."""
        self.is_mapped = is_mapped
        """Whether the arrays are a map of the binary copy, shared by all processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordIndex, (np.array(self._table),)


def open_index(path: Path) -> RecordIndex:
    """Open an index, from its binary copy where that is current.

    Raises:
        MissingPathError: the file is not there or cannot be read.
        DataError: a line is not ``key<TAB>offset``, or a key or an offset occurs twice.
    """
    try:
        status = path.stat()
        cache = path.with_name(f"{path.name}.cache")
        table = _read_cache(cache, status)
        if table is not None and _is_current(table, path, status):
            return RecordIndex(table, is_mapped=True)
        text = path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "does not exist" if missing else f"cannot be read ({error.strerror})"
        raise MissingPathError(f"index {path} {reason}; a pack has train.rec, train.idx and property") from error
    digest = hashlib.sha256(text).digest()
    if table is None or table[0, _DIGEST].astype(">i8").tobytes() != digest:
        table = _tabulate(*_parse(text, path), path)
    else:
        table = np.array(table)  # The same text under another date: copied, moved, or touched.
    _stamp(table, digest, path, status)
    _write_cache(cache, table)
    mapped = _read_cache(cache, status)
    if mapped is not None and (mapped[0, :_HEADER] == table[0, :_HEADER]).all():
        return RecordIndex(mapped, is_mapped=True)
    return RecordIndex(table)


def _parse(text: bytes, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, in the order of the keys."""
    numbers = _parse_strictly(text) if text.endswith(b"\n") else None
    if numbers is None:
        numbers = _parse_lines(text, path)
    keys, offsets = numbers[0::2], numbers[1::2]
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        repeated = keys[1:][keys[1:] == keys[:-1]]
        if len(repeated):
            raise DataError(f"index {path} names key {repeated[0]} twice; write it again from the .rec")
    return keys, offsets


def _parse_strictly(text: bytes) -> NDArray[np.int64] | None:
    """All numbers of a text as mxnet writes it, or None where it differs from that in anything."""
    characters = np.frombuffer(text, dtype=np.uint8)
    # Below "0" the difference wraps round, so this is everything that is no digit.
    separators = characters[characters - np.uint8(ord("0")) > 9]
    if len(separators) % 2 or not (separators.reshape(-1, 2) == _LINE).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    # A field without digits is passed over, and a number that is too large becomes the largest.
    return numbers if len(numbers) == len(separators) and not (numbers == _LARGEST).any() else None


def _parse_lines(text: bytes, path: Path) -> NDArray[np.int64]:
    """The slow way for what an editor or another writer has left: blanks, empty lines, no end of the last line."""
    numbers: list[int] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        fields = line.split()
        if len(fields) == 2 and all(field.isdigit() and len(field) < 19 for field in fields):
            numbers += map(int, fields)
        elif fields:
            shown = line[:40].decode("utf-8", "replace")
            raise DataError(f"index {path}, line {number}: '{shown}' is not 'key<TAB>offset'; write the index again")
    if not numbers:
        raise DataError(f"index {path} is empty; write it again from the .rec")
    return np.array(numbers, dtype=np.int64)


def _tabulate(keys: NDArray[np.int64], offsets: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    is_sequential = bool((offsets[1:] > offsets[:-1]).all())
    table = np.zeros((2 if is_sequential else 3, _HEADER + len(keys) + 1), dtype=np.int64)
    table[0, _SHAPE] = table.shape
    table[0, _HEADER:-1], table[1, _HEADER:-1] = keys, offsets
    table[1, -1] = NO_RECORD_FOLLOWS
    if not is_sequential:
        order = np.argsort(offsets, kind="stable")
        ascending = offsets[order]
        repeated = np.flatnonzero(ascending[1:] == ascending[:-1])
        if len(repeated):
            one, other = keys[order[repeated[0] : repeated[0] + 2]].tolist()
            raise DataError(f"index {path} gives the keys {one} and {other} one offset; write it again from the .rec")
        table[2, _HEADER + order] = np.append(ascending[1:], NO_RECORD_FOLLOWS)
    return table


def _stamp(table: NDArray[np.int64], digest: bytes, path: Path, status: os.stat_result) -> None:
    header = table[0, :_HEADER]
    header[_STAMP] = _stamp_of(status)
    header[_SAMPLE] = _sample(path, status.st_size)
    header[_CHECKSUM] = _checksum(table)
    header[_DIGEST] = np.frombuffer(digest, dtype=">i8")


def _stamp_of(status: os.stat_result) -> list[int]:
    # The time of the last change of the inode moves even where a copy keeps the time of the content.
    return [_VERSION, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_current(table: NDArray[np.int64], path: Path, status: os.stat_result) -> bool:
    """Whether the text is the one that the table was made of.

    Times have a resolution of milliseconds, so blocks of the text are compared too: all of it where it is short.
    """
    header = table[0, :_HEADER]
    return header[_STAMP].tolist() == _stamp_of(status) and header[_SAMPLE] == _sample(path, status.st_size)


def _sample(path: Path, size: int) -> int:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for number in range(_SAMPLE_BLOCKS):
            stream.seek(max(0, size - _SAMPLE_BLOCK) * number // (_SAMPLE_BLOCKS - 1))
            digest.update(stream.read(_SAMPLE_BLOCK))
    return _short(digest.digest())


def _read_cache(cache: Path, status: os.stat_result) -> NDArray[np.int64] | None:
    """The table of a text of this length, or None. Any doubt about the copy means that the text is parsed again."""
    with contextlib.suppress(OSError, ValueError):
        numbers = np.asarray(np.memmap(cache, dtype=np.int64, mode="r"))
        if len(numbers) > _HEADER and numbers[:2].tolist() == _stamp_of(status)[:2]:
            table = numbers.reshape(numbers[_SHAPE].tolist())
            if table.shape[0] in (2, 3) and table.shape[1] > _HEADER + 1 and table[0, _CHECKSUM] == _checksum(table):
                return table
    return None


def _write_cache(cache: Path, table: NDArray[np.int64]) -> None:
    # A read-only folder or a full disk: the next opening parses the text again.
    with contextlib.suppress(OSError):
        atomic_write_bytes(cache, table.tobytes())


def _checksum(table: NDArray[np.int64]) -> int:
    """Of every column behind the header, a gigabyte in a quarter of a second. It guards against damage, not malice."""
    checksum = 0
    for row in table:
        checksum = zlib.crc32(row[_HEADER:].data, checksum)
    return checksum


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little", signed=True)
