"""The opcodes of pickles that pair sets may use, and how the argument of each is read.

Lengths are compared with what is left of the file before anything is taken.
Source: the opcode table in CPython's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import codecs
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["MAX_OPERATIONS", "UnsafePickleError", "operations"]

MAX_OPERATIONS = 1 << 23
"""Operations that are carried out; a pair takes 5 to 25 of them."""
_LONGEST_LINE = 1 << 28
_LONGEST_NUMBER = 64
"""Bytes or digits of a number; they are 0 and 1, sizes and lengths."""

Read = Callable[[bytes, int], tuple[Any, int]]
"""``read(data, place)`` gives the argument that starts at ``place``, and the place behind it."""


class UnsafePickleError(ValueError):
    """The pickle holds something that no pair set holds; the message says what, and at which byte."""


def operations(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """Name, argument and place of every operation, up to and with STOP.

    Raises:
        UnsafePickleError: the pickle is cut off or damaged, is too long, or has an opcode that pair sets do not need.
    """
    place = 0
    for _ in range(MAX_OPERATIONS):
        if place >= len(data):
            raise UnsafePickleError("the pickle is cut off")
        name, read = _CODES.get(data[place]) or _unknown(data[place])
        argument, after = read(data, place + 1) if read is not None else (None, place + 1)
        yield name, argument, place
        if name == "STOP":
            return
        place = after
    raise UnsafePickleError(f"it has more than {MAX_OPERATIONS} operations")


def _unknown(code: int) -> tuple[str, Read | None]:
    import pickletools  # Only for the name of what is refused.

    name = next((known.name for known in pickletools.opcodes if known.code == chr(code)), hex(code))
    raise UnsafePickleError(f"the operation {name} is not allowed in a pair set")


def _take(data: bytes, place: int, length: int) -> tuple[bytes, int]:
    if length > len(data) - place:
        raise UnsafePickleError(f"the pickle is cut off: {length} bytes are announced, {len(data) - place} are left")
    return data[place : place + length], place + length


def _number(form: str) -> Read:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)

    def read(data: bytes, place: int) -> tuple[Any, int]:
        raw, after = _take(data, place, size)
        return unpack(raw)[0], after

    return read


def _counted(form: str, convert: Callable[[bytes], Any] | None = None) -> Read:
    read_length = _number(form)

    def read(data: bytes, place: int) -> tuple[Any, int]:
        length, begin = read_length(data, place)
        if length < 0:
            raise UnsafePickleError("a length is negative")
        raw, after = _take(data, begin, length)
        return (raw if convert is None else convert(raw)), after

    return read


def _line(convert: Callable[[bytes], Any]) -> Read:
    def read(data: bytes, place: int) -> tuple[Any, int]:
        end = data.find(b"\n", place, place + _LONGEST_LINE)
        if end < 0:
            raise UnsafePickleError("the pickle is cut off: a line has no end")
        return convert(data[place:end]), end + 1

    return read


def _two_lines(data: bytes, place: int) -> tuple[Any, int]:
    first, place = _line(_utf8)(data, place)
    second, place = _line(_utf8)(data, place)
    return (first, second), place


def _utf8(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _escaped_text(raw: bytes) -> str:
    return raw.decode("raw-unicode-escape")


def _quoted_bytes(raw: bytes) -> bytes:
    """A string as Python 2 prints it."""
    raw = raw.strip()
    if len(raw) < 2 or raw[0] != raw[-1] or raw[:1] not in (b"'", b'"'):
        raise UnsafePickleError("a string has no quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return codecs.escape_decode(raw[1:-1])[0]
        except DeprecationWarning as error:
            raise UnsafePickleError("a string has an escape that does not exist") from error


def _decimal(raw: bytes) -> int | bool:
    if raw in (b"00", b"01"):
        return raw == b"01"
    if len(raw) > _LONGEST_NUMBER:
        raise UnsafePickleError("a number is too long")
    return int(raw.strip().removesuffix(b"L"))


def _integer(raw: bytes) -> int:
    if len(raw) > _LONGEST_NUMBER:
        raise UnsafePickleError("a number is too long")
    return int.from_bytes(raw, "little", signed=True)


_CODES: dict[int, tuple[str, Read | None]] = {
    ord(code): (name, read)
    for code, name, read in (
        (".", "STOP", None),
        ("\x80", "IGNORE", _number("<B")),  # PROTO and FRAME say nothing about the data.
        ("\x95", "IGNORE", _number("<Q")),
        ("(", "MARK", None),
        ("]", "EMPTY_LIST", None),
        (")", "EMPTY_TUPLE", None),
        ("l", "LIST", None),
        ("t", "TUPLE", None),
        ("\x85", "TUPLE1", None),
        ("\x86", "TUPLE2", None),
        ("\x87", "TUPLE3", None),
        ("a", "APPEND", None),
        ("e", "APPENDS", None),
        ("N", "NONE", None),
        ("\x88", "TRUE", None),
        ("\x89", "FALSE", None),
        ("I", "PUSH", _line(_decimal)),
        ("L", "PUSH", _line(_decimal)),
        ("J", "PUSH", _number("<i")),
        ("K", "PUSH", _number("<B")),
        ("M", "PUSH", _number("<H")),
        ("\x8a", "PUSH", _counted("<B", _integer)),
        ("\x8b", "PUSH", _counted("<i", _integer)),
        ("F", "PUSH", _line(float)),
        ("G", "PUSH", _number(">d")),
        ("V", "PUSH", _line(_escaped_text)),
        ("X", "PUSH", _counted("<I", _utf8)),
        ("\x8c", "PUSH", _counted("<B", _utf8)),
        ("\x8d", "PUSH", _counted("<Q", _utf8)),
        ("B", "PUSH", _counted("<I")),
        ("C", "PUSH", _counted("<B")),
        ("\x8e", "PUSH", _counted("<Q")),
        ("\x96", "PUSH", _counted("<Q")),
        ("S", "PUSH", _line(_quoted_bytes)),
        ("T", "PUSH", _counted("<i")),
        ("U", "PUSH", _counted("<B")),
        ("\x94", "MEMOIZE", None),
        ("p", "PUT", _line(_decimal)),
        ("q", "PUT", _number("<B")),
        ("r", "PUT", _number("<I")),
        ("g", "GET", _line(_decimal)),
        ("h", "GET", _number("<B")),
        ("j", "GET", _number("<I")),
        ("c", "GLOBAL", _two_lines),
        ("\x93", "STACK_GLOBAL", None),
        ("R", "REDUCE", None),
        ("b", "BUILD", None),
    )
}
