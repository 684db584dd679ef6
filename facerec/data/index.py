"""The index of a record file: which key starts at which byte.

The text ``.idx`` (``key<TAB>offset`` per line) is parsed once; a binary copy beside it, which all processes map into
the same memory, makes every later opening immediate. An entry takes 16 bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError
from facerec.fsio import atomic_write_bytes

__all__ = ["RecordIndex", "open_index"]

_VERSION = 1
_HEADER = 8
"""Leading columns of the cache: version, size and time of the text, checksum, and its SHA-256 as four integers."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordIndex:
    """Keys, ascending and without repeats, and where each record starts."""

    keys: NDArray[np.int64]
    """(records,)."""
    offsets: NDArray[np.int64]
    """(records,), bytes."""
    sha256: str
    """Of the text file."""
    is_mapped: bool
    """Whether the arrays are a map of the binary copy, shared by all processes."""


def open_index(path: Path) -> RecordIndex:
    """Open an index, from its binary copy where that is current.

    Raises:
        MissingPathError: the file is not there.
        DataError: a line is not ``key<TAB>offset``, or a key occurs twice.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MissingPathError(f"index {path} does not exist; a pack has train.rec, train.idx and property") from error
    cache = path.with_name(f"{path.name}.cache.npy")
    found = _read_cache(cache, status)
    if found is not None:
        return found
    text = path.read_bytes()
    keys, offsets = _parse(text, path)
    digest = hashlib.sha256(text).hexdigest()
    _write_cache(cache, status, digest, keys, offsets)
    return _read_cache(cache, status) or RecordIndex(keys, offsets, digest, is_mapped=False)


def _parse(text: bytes, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise _line_error(text, path) from error
    lines = text.count(b"\n") + (0 if text.endswith(b"\n") or not text else 1)
    if len(numbers) != 2 * lines or (len(numbers) and numbers.min() < 0):
        raise _line_error(text, path)
    if not lines:
        raise DataError(f"index {path} is empty; write it again from the .rec")
    keys, offsets = np.ascontiguousarray(numbers[0::2]), np.ascontiguousarray(numbers[1::2])
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        repeated = keys[1:][keys[1:] == keys[:-1]]
        if len(repeated):
            raise DataError(f"index {path} names key {repeated[0]} twice; write it again from the .rec")
    return keys, offsets


def _line_error(text: bytes, path: Path) -> DataError:
    for number, line in enumerate(text.split(b"\n"), start=1):
        fields = line.split()
        good = len(fields) == 2 and all(field.isdigit() and len(field) < 19 for field in fields)
        if not good and (line.strip() or number <= text.count(b"\n")):
            shown = line[:40].decode("utf-8", "replace")
            return DataError(f"index {path}, line {number}: '{shown}' is not 'key<TAB>offset'; write the index again")
    return DataError(f"index {path} is damaged; write it again from the .rec")


def _stamp(status: os.stat_result) -> list[int]:
    return [_VERSION, status.st_size, status.st_mtime_ns]


def _read_cache(cache: Path, status: os.stat_result) -> RecordIndex | None:
    # Any doubt about the copy means that the text is parsed again.
    with contextlib.suppress(OSError, ValueError, EOFError):
        table = np.load(cache, mmap_mode="r", allow_pickle=False)
        if table.dtype == np.int64 and table.ndim == 2 and table.shape[0] == 2 and table.shape[1] > _HEADER:
            header = table[0, :_HEADER]
            keys, offsets = table[0, _HEADER:], table[1, _HEADER:]
            if header[:3].tolist() == _stamp(status) and header[3] == _checksum(keys, offsets):
                return RecordIndex(keys, offsets, header[4:8].astype(">i8").tobytes().hex(), is_mapped=True)
    return None


def _write_cache(
    cache: Path, status: os.stat_result, digest: str, keys: NDArray[np.int64], offsets: NDArray[np.int64]
) -> None:
    table = np.zeros((2, _HEADER + len(keys)), dtype=np.int64)
    table[0, :3] = _stamp(status)
    table[0, 3] = _checksum(keys, offsets)
    table[0, 4:8] = np.frombuffer(bytes.fromhex(digest), dtype=">i8")
    table[0, _HEADER:], table[1, _HEADER:] = keys, offsets
    stream = io.BytesIO()
    np.save(stream, table)
    # A read-only folder or a full disk: the next opening parses the text again.
    with contextlib.suppress(OSError):
        atomic_write_bytes(cache, stream.getvalue())


def _checksum(keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> int:
    """Cheap: 512 entries spread over the table, and its length. It guards against a torn copy, not against malice."""
    places = np.linspace(0, len(keys) - 1, 512).astype(np.int64)
    content = np.stack([keys[places], offsets[places]]).tobytes() + len(keys).to_bytes(8, "little")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)
