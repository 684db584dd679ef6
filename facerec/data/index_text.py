"""The text of an index: ``key<TAB>offset`` per line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError

__all__ = ["parse_index", "sort_rows"]

_LARGEST = (1 << 63) - 1
_PIECE = 1 << 18
_LINE = np.frombuffer(b"\t\n", dtype=np.uint8)


def parse_index(text: bytes, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys, ascending, and the offset of each.

    Shape: both (records,), int64.

    Raises:
        DataError: a line is not ``key<TAB>offset``, there is none, or a key occurs twice; ``path`` opens the message.
    """
    numbers = _parse_strictly(text) if text.endswith(b"\n") else None
    if numbers is None:
        numbers = _parse_lines(text, path)
    keys, offsets = numbers[0::2], numbers[1::2]
    if not (keys[1:] > keys[:-1]).all():
        order, keys = sort_rows(keys)
        offsets = offsets[order]
        repeated = keys[1:][keys[1:] == keys[:-1]]
        if len(repeated):
            raise DataError(f"index {path} names key {repeated[0]} twice; write it again from the .rec")
    return keys, offsets


def sort_rows(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the values, and the values in it."""
    count, first = len(values), int(values.min())
    if int(values.max()) - first == count - 1:
        # Numbers of one range, as keys are, each of which then knows its place.
        order = np.full(count, -1, dtype=np.int64)
        order[values - first] = np.arange(count)
        if order.min() >= 0:
            return order, np.arange(first, first + count, dtype=np.int64)
    row_bits = count.bit_length()
    if int(values.max()) >= 1 << (63 - row_bits):
        order = np.argsort(values)
        return order, values[order]
    # numpy sorts numbers several times faster than it finds their order.
    both = values << row_bits
    both |= np.arange(len(values))
    both.sort()
    return both & ((1 << row_bits) - 1), both >> row_bits


def _parse_strictly(text: bytes) -> NDArray[np.int64] | None:
    """All numbers of a text as mxnet writes it, or None where it differs from that in anything."""
    characters = np.frombuffer(text, dtype=np.uint8)
    # In pieces that the processor's cache holds. Below "0" the difference wraps round, so this is all that is no digit.
    pieces = (characters[begin : begin + _PIECE] for begin in range(0, len(characters), _PIECE))
    separators = np.concatenate([piece[piece - np.uint8(ord("0")) > 9] for piece in pieces])
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
