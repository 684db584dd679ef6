"""The parts of one record, with every check that the format allows.

A payload has no checksum, but a header has neighbours: a part must be followed by a part that continues it, and a
record by the start of another one. No damage to magic, length or continuation flag passes that, except a length that
grows into its own padding, which adds zero bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from facerec.data.record_writer import LENGTH_BITS, MAGIC, aligned_magics

__all__ = [
    "FIRST",
    "HEADER_BYTES",
    "LAST",
    "LENGTH_MASK",
    "MIDDLE",
    "PADDING",
    "WHOLE",
    "Fetch",
    "RecordFault",
    "Span",
    "check_what_follows",
    "find_parts",
    "starts_record",
    "unpack_header",
]

HEADER_BYTES = 8
LENGTH_MASK = (1 << LENGTH_BITS) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
"""By ``length % 4``."""
unpack_header = struct.Struct("<II").unpack_from

Fetch = Callable[[int, int], bytes]
"""``fetch(start, length)`` gives the bytes of the file, fewer where it ends."""
Span = tuple[int, int]
"""Begin and end of the payload of one part."""


class RecordFault(Exception):  # noqa: N818 - half a sentence; RecordError is what callers see
    """What is wrong with a record, as the second half of a sentence whose subject is the record."""

    def __init__(self, problem: str, *, is_cut_off: bool = False) -> None:
        super().__init__(problem)
        self.is_cut_off = is_cut_off
        """Whether the file ends inside the record."""


def find_parts(fetch: Fetch, offset: int, *, limit: int, size: int) -> tuple[list[Span], int]:
    """The payloads of the parts of the record at ``offset``, and where its padding ends.

    ``limit`` is where the next known record starts, or ``size``, the length of the file.

    Raises:
        RecordFault: no intact record starts there.
    """
    flag, span, end = _part(fetch, offset, limit=limit, size=size)
    if flag in (MIDDLE, LAST):
        raise RecordFault("starts in the middle of a multi-part record")
    spans = [span]
    while flag in (FIRST, MIDDLE):
        if end == limit != size:
            raise RecordFault(f"is incomplete: at byte {end}, where its next part belongs, another record starts")
        start = end
        flag, span, end = _part(fetch, start, limit=limit, size=size)
        if flag not in (MIDDLE, LAST):
            raise RecordFault(f"is incomplete: at byte {start}, where its next part belongs, another record starts")
        spans.append(span)
    return spans, end


def _part(fetch: Fetch, start: int, *, limit: int, size: int) -> tuple[int, Span, int]:
    header = fetch(start, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise RecordFault("is cut off: the file ends in its header", is_cut_off=True)
    magic, word = unpack_header(header)
    if magic != MAGIC:
        raise RecordFault(f"is damaged: no record starts at byte {start}")
    flag, length = word >> LENGTH_BITS, word & LENGTH_MASK
    if flag > LAST:
        raise RecordFault(f"is damaged: its continuation flag is {flag}, but 0 to 3 exist")
    begin = start + HEADER_BYTES
    stop = begin + length
    padding = PADDING[length % 4]
    end = stop + len(padding)
    if end > limit == size:
        raise RecordFault(f"is cut off: it needs {length} bytes, the file ends {end - size} short", is_cut_off=True)
    if end > limit:
        raise RecordFault(f"is damaged: its length {length} reaches past byte {limit}, where another record starts")
    if padding and fetch(stop, len(padding)) != padding:
        raise RecordFault(f"is damaged: its padding at byte {stop} is not zero, so its length {length} may be wrong")
    return flag, (begin, stop), end


def check_what_follows(fetch: Fetch, spans: Sequence[Span], end: int, *, limit: int) -> None:
    """Check the length of a record behind which bytes lie that the index does not mention.

    An index may leave records out, so another record may start there. Nothing else may: a payload cannot hold the magic
    at an aligned place, so a length that is too short ends where no record starts, and one that is too long swallows
    a magic.

    Raises:
        RecordFault: the length is wrong.
    """
    if end == limit:
        return
    if not starts_record(fetch, end):
        raise RecordFault(f"is damaged: at byte {end}, where it ends, no other record starts")
    if any(aligned_magics(fetch(begin, stop - begin)) for begin, stop in spans):
        raise RecordFault("is damaged: its length reaches into another record")


def starts_record(fetch: Fetch, place: int) -> bool:
    """Whether a whole record or a first part has its header at ``place``."""
    header = fetch(place, HEADER_BYTES)
    magic, word = unpack_header(header) if len(header) == HEADER_BYTES else (0, 0)
    return magic == MAGIC and word >> LENGTH_BITS in (WHOLE, FIRST)
