"""Whether a record file and an index belong together; looked at when they are opened."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from facerec.data.index import RecordIndex
from facerec.data.record_file import RecordFile
from facerec.data.record_parts import HEADER_BYTES, RecordFault, find_parts
from facerec.data.record_writer import MAGIC
from facerec.errors import RecordError

__all__ = ["check_index", "record_error"]

_log = logging.getLogger(__name__)

_SAMPLED_PLACES = 16


def check_index(file: RecordFile, index: RecordIndex, *, idx_path: Path) -> None:
    """Compare the places where records start, at the ends of the index and at some places between.

    Single damaged records are no reason to refuse a file: they are reported when they are read. A last record that the
    file does not hold in full is told at once, because the whole file may have been cut off there.

    Raises:
        RecordError: the index belongs to another file, or the file is truncated.
    """
    _check_end(file, index, idx_path)
    places = np.unique(np.linspace(0, len(index) - 1, _SAMPLED_PLACES).astype(np.int64))
    # Any file has a record at its first byte.
    places = places[index.offsets[places] > 0]
    wrong = places[file.words_at(index.offsets[places], 1)[:, 0] != MAGIC]
    if len(wrong) and 2 * len(wrong) >= len(places):
        problem = f"does not start there: {idx_path} belongs to another file"
        raise record_error(file.path, index, int(wrong[0]), problem)


def record_error(rec_path: Path, index: RecordIndex, row: int, problem: str) -> RecordError:
    """The error of the record in a row of the index; ``problem`` is a sentence whose subject is the record."""
    key, offset = index.key_at(row), index.offset_at[row]
    return RecordError(f"{rec_path}: record {key} at byte {offset} {problem}", key=key, offset=offset)


def _check_end(file: RecordFile, index: RecordIndex, idx_path: Path) -> None:
    last = index.last_position
    if index.offset_at[last] + HEADER_BYTES <= file.size:
        cut_off = _cut_off(file, index.offset_at[last])
    else:
        is_past = index.offsets + HEADER_BYTES > file.size
        cut_off = f"lies past the end of the file ({file.size} bytes): the file is truncated"
        # One line of the index may be wrong, or the file end between two records; more is no small damage.
        before = int(np.where(is_past, -1, index.offsets).max())
        if is_past.sum() > 1 or before < 0 or _cut_off(file, before):
            raise record_error(file.path, index, last, f"{cut_off}, or {idx_path} belongs to another file")
    if cut_off:
        _log.warning("%s; the records before it are there", record_error(file.path, index, last, cut_off))


def _cut_off(file: RecordFile, offset: int) -> str:
    """How the file ends inside a record, as the second half of a sentence; empty where it does not."""
    try:
        find_parts(file.fetch, offset, limit=file.size, size=file.size)
    except RecordFault as fault:
        return str(fault) if fault.is_cut_off else ""
    return ""
