"""What the records say of themselves: image, label, header of the pack, span of an identity."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerec.data.checking.findings import Findings
from facerec.data.checking.index_check import Indexed
from facerec.data.checking.walk import Walk
from facerec.data.image_record import HEADER_BYTES, ImageRecord, parse_image_record
from facerec.data.record_parts import FIRST, LAST, MIDDLE
from facerec.data.record_parts import HEADER_BYTES as PART_HEADER_BYTES
from facerec.data.record_writer import MAGIC_BYTES
from facerec.errors import RecordError

__all__ = ["Payloads", "join_parts", "read_payloads"]

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Payloads:
    """The heads of all records that the index knows, in the order of the keys."""

    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """Bytes."""
    flags: NDArray[np.int64]
    """Number of labels behind the head."""
    labels: NDArray[np.float32]
    """The first label."""
    second_labels: NDArray[np.float32]
    """NaN where there is none."""
    has_image: NDArray[np.bool_]

    def where(self, place: int) -> str:
        """The record, for messages."""
        return f"record {self.keys[place]} at byte {self.offsets[place]}"


def join_parts(view: mmap.mmap | bytes, walk: Walk, place: int) -> bytes | None:
    """The payload of the record whose first part stands at a place of the walk; None where a part is missing."""
    pieces = []
    while True:
        begin = int(walk.offsets[place]) + PART_HEADER_BYTES
        pieces.append(view[begin : begin + int(walk.lengths[place])])
        if walk.flags[place] not in (FIRST, MIDDLE):
            return MAGIC_BYTES.join(pieces)
        place += 1
        if place == len(walk.flags) or walk.flags[place] not in (MIDDLE, LAST):
            return None


def read_payloads(view: mmap.mmap | bytes, walk: Walk, indexed: Indexed, findings: Findings) -> Payloads:
    """The heads of the records; those that are too short to have one are noted and left out."""
    count = len(indexed.keys)
    flags, labels = np.zeros(count, dtype=np.int64), np.full((count, 2), np.nan, dtype=np.float32)
    has_image, is_good = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for begin in range(0, count, _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        parts = indexed.parts[chunk]
        lengths, head = walk.lengths[parts], walk.heads[parts]
        needed = HEADER_BYTES + 4 * head[:, 0].astype(np.int64)
        values = head[:, 1:].view(np.float32)
        flags[chunk] = head[:, 0]
        labels[chunk, 0] = np.where(head[:, 0] > 0, values[:, 1], values[:, 0])
        labels[chunk, 1] = np.where(head[:, 0] > 1, values[:, 2], np.nan)
        has_image[chunk] = lengths > needed
        is_good[chunk] = (lengths >= needed) & (walk.flags[parts] == 0)
    for place in np.flatnonzero(~is_good).tolist():
        record = _parse(view, walk, indexed, place, findings)
        if record is not None:
            is_good[place] = True
            flags[place], has_image[place] = record.flag, len(record.image) > 0
            labels[place] = [record.label, record.labels[1] if record.flag > 1 else np.nan]
    kept = np.flatnonzero(is_good)
    offsets = walk.offsets[indexed.parts[kept]]
    return Payloads(indexed.keys[kept], offsets, flags[kept], labels[kept, 0], labels[kept, 1], has_image[kept])


def _parse(view: mmap.mmap | bytes, walk: Walk, indexed: Indexed, place: int, findings: Findings) -> ImageRecord | None:
    key, part = int(indexed.keys[place]), int(indexed.parts[place])
    offset = int(walk.offsets[part])
    payload = join_parts(view, walk, part)
    if payload is None:
        return None  # A part is missing, which the walk has noted.
    try:
        return parse_image_record(payload)
    except RecordError as error:
        findings.add("payload", f"record {key} at byte {offset} is no image record: {error}", key=key, offset=offset)
        return None
