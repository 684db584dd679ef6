"""A ``.idx`` against the records that are really there."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.checking.findings import Findings
from facerec.data.checking.walk import Walk
from facerec.data.index_text import parse_index
from facerec.errors import DataError

__all__ = ["Indexed", "check_index"]

_EMPTY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """The records that both the index and the file know."""

    keys: NDArray[np.int64]
    """(records,), ascending."""
    parts: NDArray[np.int64]
    """(records,) the place of the first part of each in the arrays of the walk."""
    first_key: int | None
    """The lowest key of the index, damaged or not."""
    num_keys: int

    def key_at(self) -> dict[int, int]:
        """Keys by the place of the first part."""
        return dict(zip(self.parts.tolist(), self.keys.tolist(), strict=True))


def check_index(path: Path, walk: Walk, *, size: int, findings: Findings) -> Indexed:
    """Compare an index with a walk; malformed lines, repeats, wrong and missing offsets are noted."""
    keys, offsets = _read(path, findings)
    if not len(keys):
        return Indexed(_EMPTY, _EMPTY, None, 0)
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        keys, offsets = _without_repeats(keys, offsets, findings)
    if not (offsets[1:] > offsets[:-1]).all():
        findings.notes.append("the order of the keys is not the order of the records in the file")
    first_key, num_keys = int(keys[0]), len(keys)
    _check_distinct_offsets(keys, offsets, findings)
    keys, offsets = _check_ends(keys, offsets, size, findings)
    starts = walk.starts
    start_offsets = walk.offsets[starts]
    places = np.searchsorted(start_offsets, offsets)
    found = places < len(starts)
    found[found] = start_offsets[places[found]] == offsets[found]
    _tell_wrong(keys[~found], offsets[~found], walk, findings)
    _tell_missing(start_offsets, offsets, findings)
    return Indexed(keys[found], starts[places[found]], first_key, num_keys)


def _read(path: Path, findings: Findings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        findings.add("index", f"{path} cannot be read ({error.strerror}); without it no record has a key")
        return _EMPTY, _EMPTY
    try:
        return parse_index(text, path)
    except DataError:
        return _read_lines(text, path, findings)


def _read_lines(text: bytes, path: Path, findings: Findings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows: list[tuple[int, int]] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        fields = line.split()
        if len(fields) == 2 and all(field.isdigit() and len(field) < 19 for field in fields):
            rows.append((int(fields[0]), int(fields[1])))
        elif fields:
            shown = line[:40].decode("utf-8", "replace")
            findings.add("index", f"{path.name}, line {number}: '{shown}' is not 'key<TAB>offset'")
    if not rows:
        findings.add("index", f"{path.name} names no record")
        return _EMPTY, _EMPTY
    table = np.array(rows, dtype=np.int64)
    return table[:, 0].copy(), table[:, 1].copy()


def _without_repeats(
    keys: NDArray[np.int64], offsets: NDArray[np.int64], findings: Findings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    repeated = np.zeros(len(keys), dtype=bool)
    repeated[1:] = keys[1:] == keys[:-1]
    for place in np.flatnonzero(repeated).tolist():
        key, offset = int(keys[place]), int(offsets[place])
        findings.add("index", f"key {key} is named again, at byte {offset}", key=key, offset=offset)
    return keys[~repeated], offsets[~repeated]


def _check_distinct_offsets(keys: NDArray[np.int64], offsets: NDArray[np.int64], findings: Findings) -> None:
    order = np.argsort(offsets, kind="stable")
    ascending = offsets[order]
    for place in np.flatnonzero(ascending[1:] == ascending[:-1]).tolist():
        one, other = int(keys[order[place]]), int(keys[order[place + 1]])
        offset = int(ascending[place])
        findings.add("index", f"keys {one} and {other} share the record at byte {offset}", key=other, offset=offset)


def _check_ends(
    keys: NDArray[np.int64], offsets: NDArray[np.int64], size: int, findings: Findings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    inside = offsets < size
    for key, offset in zip(keys[~inside].tolist(), offsets[~inside].tolist(), strict=True):
        message = f"key {key} points to byte {offset}, past the end of the file ({size} bytes)"
        findings.add("index", message, key=key, offset=offset)
    return keys[inside], offsets[inside]


def _tell_wrong(keys: NDArray[np.int64], offsets: NDArray[np.int64], walk: Walk, findings: Findings) -> None:
    begins = [begin for begin, _ in walk.damaged]
    for key, offset in zip(keys.tolist(), offsets.tolist(), strict=True):
        where = f"key {key} points to byte {offset}"
        region = bisect_right(begins, offset) - 1
        if region >= 0 and offset < walk.damaged[region][1]:
            findings.add("index", f"{where}, which is damaged", key=key, offset=offset)
            continue
        place = int(np.searchsorted(walk.offsets, offset, side="right")) - 1
        if place >= 0:
            where += f", into the middle of the record at byte {walk.offsets[place]}"
        findings.add("index", f"{where}; that record's length or the index is wrong", key=key, offset=offset)


def _tell_missing(start_offsets: NDArray[np.int64], offsets: NDArray[np.int64], findings: Findings) -> None:
    ascending = np.sort(offsets)
    places = np.searchsorted(ascending, start_offsets)
    known = places < len(ascending)
    known[known] = ascending[places[known]] == start_offsets[known]
    for offset in start_offsets[~known].tolist():
        findings.add("index", f"the record at byte {offset} has no key in the index", offset=offset)
