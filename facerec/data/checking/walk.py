"""From the first byte of a ``.rec`` to the last, without its index.

A walk finds where records really start, so that the index can be compared with that. Behind damage it goes on at the
next aligned magic, which no payload can hold.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.checking.findings import Findings
from facerec.data.record_parts import FIRST, HEADER_BYTES, LAST, LENGTH_MASK, MIDDLE, WHOLE, unpack_header
from facerec.data.record_writer import LENGTH_BITS, MAGIC, MAGIC_BYTES
from facerec.errors import MissingPathError

__all__ = ["Walk", "map_file", "walk_records"]

_CHUNK = 1 << 16
_HEAD_WORDS = np.array([0, 1, 6, 7])
"""Places in a payload, in words; between them lie two ids of 64 bits."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The parts of all records, in the order of the file."""

    offsets: NDArray[np.int64]
    """(parts,) where each starts."""
    flags: NDArray[np.uint8]
    """(parts,) continuation flags."""
    lengths: NDArray[np.int64]
    """(parts,) bytes of payload."""
    heads: NDArray[np.uint32]
    """(parts, 4) words of the payload: the number of labels, the label, and the first two behind the head."""
    damaged: list[tuple[int, int]]
    """Begin and end of what is no intact record, in the order of the file."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """Places in the arrays above where records start."""
        return np.flatnonzero((self.flags == WHOLE) | (self.flags == FIRST))


def map_file(path: Path) -> mmap.mmap | bytes:
    """A file as bytes that are read when they are looked at.

    Raises:
        MissingPathError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not os.fstat(descriptor).st_size:
                return b""
            view = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            view.madvise(mmap.MADV_SEQUENTIAL)
            return view
        finally:
            os.close(descriptor)
    except OSError as error:
        raise MissingPathError(f"{path} cannot be read ({error.strerror})") from error


def walk_records(view: mmap.mmap | bytes, findings: Findings, *, progress: Progress | None = None) -> Walk:
    """Find all parts; faults of magic, length, continuation and padding are noted."""
    size = len(view)
    offsets, words = array("q"), array("L" if array("L").itemsize == 4 else "I")
    damaged: list[tuple[int, int]] = []
    looker = _Looker(view, findings)
    offset = 0
    while offset < size:
        offset, is_good = _pass_good(view, offset, offsets, words)
        if not is_good:
            offset = _pass_damage(view, offset, offsets, words, damaged, findings)
        # The last part may still turn out to be damaged.
        looker.look(offsets, words, len(offsets) - 1)
        if progress is not None:
            progress(offset, size)
    looker.look(offsets, words, len(offsets))
    walk = looker.finish(damaged)
    _check_continuation(walk, findings)
    return walk


class _Looker:
    """Looks at the payloads of parts that the walk has just passed, while they are in memory: a file is read once."""

    def __init__(self, view: mmap.mmap | bytes, findings: Findings) -> None:
        self._words = np.frombuffer(view, dtype="<u4", count=len(view) // 4)
        self._findings = findings
        self._num_seen = 0
        self._chunks: list[tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]] = []

    def look(self, offsets: array[int], words: array[int], stop: int) -> None:
        """Note the heads of the parts up to a place, and padding that is not zero."""
        if stop <= self._num_seen:
            return
        new = slice(self._num_seen, stop)
        starts, lrec = np.array(offsets[new], dtype=np.int64), np.array(words[new], dtype=np.uint32)
        self._num_seen = stop
        first_word = (starts + HEADER_BYTES) // 4
        heads = self._words[np.minimum(first_word[:, None] + _HEAD_WORDS, len(self._words) - 1)]
        self._chunks.append((starts, lrec, heads))
        lengths = (lrec & LENGTH_MASK).astype(np.int64)
        padded = np.flatnonzero(lengths % 4)
        last = self._words[first_word[padded] + lengths[padded] // 4]
        for place in padded[last >> (8 * (lengths[padded] % 4)).astype(np.uint32) != 0].tolist():
            offset, length = int(starts[place]), int(lengths[place])
            message = f"record at byte {offset}: its padding is not zero, so its length {length} may be wrong"
            self._findings.add("padding", message, offset=offset)

    def finish(self, damaged: list[tuple[int, int]]) -> Walk:
        """Everything that was seen."""
        empty = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32), np.zeros((0, 4), dtype=np.uint32))
        offsets, lrec, heads = (np.concatenate(column) for column in zip(empty, *self._chunks, strict=True))
        flags, lengths = (lrec >> LENGTH_BITS).astype(np.uint8), (lrec & LENGTH_MASK).astype(np.int64)
        return Walk(offsets, flags, lengths, heads, damaged)


def _pass_good(view: mmap.mmap | bytes, offset: int, offsets: array[int], words: array[int]) -> tuple[int, bool]:
    """Note good parts, up to some number; returns where the next one starts, and whether none of them was bad."""
    # Most files are good from end to end: this loop runs once for every record, so everything in it is a local.
    size, unpack, good_magic, mask = len(view), unpack_header, MAGIC, LENGTH_MASK
    last_header, bad_flag = size - HEADER_BYTES, LAST + 1 << LENGTH_BITS
    add_offset, add_word = offsets.append, words.append
    for _ in range(_CHUNK):
        if offset > last_header:
            return offset, offset == size
        magic, word = unpack(view, offset)
        end = offset + 8 + ((word & mask) + 3 & ~3)
        if magic != good_magic or word >= bad_flag or end > size:
            return offset, False
        add_offset(offset)
        add_word(word)
        offset = end
    return offset, True


def _pass_damage(
    view: mmap.mmap | bytes,
    offset: int,
    offsets: array[int],
    words: array[int],
    damaged: list[tuple[int, int]],
    findings: Findings,
) -> int:
    """Say what is wrong at ``offset``, and return where the next part starts."""
    size = len(view)
    if offset + HEADER_BYTES > size:
        findings.add("length", f"at byte {offset}: the file ends inside the header of a record", offset=offset)
        damaged.append((offset, size))
        return size
    magic, word = unpack_header(view, offset)
    begin, search_from = offset, offset + 4
    if magic == MAGIC and word >> LENGTH_BITS > LAST:
        flag = word >> LENGTH_BITS
        findings.add("continuation", f"record at byte {offset}: its flag is {flag}, but 0 to 3 exist", offset=offset)
    elif magic == MAGIC:
        needed, left = word & LENGTH_MASK, size - offset - HEADER_BYTES
        findings.add(
            "length", f"record at byte {offset}: its length is {needed}, but {left} bytes are left", offset=offset
        )
    elif len(offsets) and _next_magic(view, offsets[-1] + HEADER_BYTES) != _next_magic(view, offset):
        # A magic lies before the end of the record before: its length is too long, and it swallowed another one.
        begin = offsets.pop()
        search_from = begin + HEADER_BYTES
        length = words.pop() & LENGTH_MASK
        findings.add("length", f"record at byte {begin}: its length {length} reaches into another record", offset=begin)
    elif len(offsets):
        length = words[-1] & LENGTH_MASK
        problem = (
            f"no record starts where the one at byte {offsets[-1]} ends; its length {length} is wrong, or the next"
        )
        findings.add("magic", f"at byte {offset}: {problem} header is damaged", offset=offset)
    else:
        findings.add("magic", f"at byte {offset}: no record starts there", offset=offset)
    end = _next_magic(view, search_from)
    damaged.append((begin, end))
    return end


def _next_magic(view: mmap.mmap | bytes, start: int) -> int:
    """The next aligned place with the magic; the length of the file where there is none."""
    place = view.find(MAGIC_BYTES, start)
    while place >= 0 and place % 4:
        place = view.find(MAGIC_BYTES, place + 1)
    return place if place >= 0 else len(view)


def _check_continuation(walk: Walk, findings: Findings) -> None:
    flags = walk.flags
    continues = (flags == MIDDLE) | (flags == LAST)
    expects = np.zeros(len(flags) + 1, dtype=bool)
    expects[1:] = (flags == FIRST) | (flags == MIDDLE)
    for place in np.flatnonzero(continues != expects[:-1]).tolist():
        offset = int(walk.offsets[place])
        if continues[place]:
            problem = f"it has continuation flag {flags[place]}, but continues nothing"
        else:
            problem = f"it starts a record, but the one at byte {walk.offsets[place - 1]} is not complete"
        findings.add("continuation", f"record at byte {offset}: {problem}", offset=offset)
    if expects[-1]:
        offset = int(walk.offsets[-1])
        findings.add("continuation", f"record at byte {offset}: the file ends before its last part", offset=offset)
