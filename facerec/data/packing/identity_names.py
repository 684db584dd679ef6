r"""``identities.tsv``: which identity has which name, beside a pack; ``label<TAB>images<TAB>name`` per line.

A tab, a line break or a backslash in a name is written as ``\t``, ``\n``, ``\r`` or ``\\``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from facerec.errors import DataError

__all__ = [
    "HEADING",
    "IdentityName",
    "escape",
    "identity_line",
    "printable",
    "read_identities",
    "read_identity_lines",
    "unescape",
]

HEADING = b"label\timages\tname\n"
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPES.items()}


class IdentityName(NamedTuple):
    """One line of the file."""

    label: int
    num_images: int
    name: str


def escape(text: str) -> str:
    """The text on one line and in one column."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"\\[\\tnr]", lambda match: _PLAIN[match[0]], text)


def printable(text: str) -> str:
    """The text for a terminal or JSON; bytes of a file name that are no UTF-8 become the replacement character."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def identity_line(label: int, num_images: int, name: str) -> bytes:
    """One line; a name that is no valid UTF-8 in the file system keeps its bytes."""
    return f"{label}\t{num_images}\t{escape(name)}\n".encode("utf-8", "surrogateescape")


def read_identity_lines(content: bytes, *, what: str) -> list[IdentityName]:
    """Parse the content of the file.

    Raises:
        DataError: a line is damaged, or the labels do not count from 0; ``what`` opens the message.
    """
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()) or int(fields[0]) != len(rows):
            raise DataError(f"{what}, line {number} is not label, number of images and name; remove the file")
        rows.append(IdentityName(int(fields[0]), int(fields[1]), unescape(fields[2])))
    return rows


def read_identities(path: Path) -> list[IdentityName] | None:
    """The names of a pack's identities; None where there is no such file.

    Raises:
        DataError: the file is damaged.
    """
    return read_identity_lines(path.read_bytes(), what=str(path)) if path.is_file() else None
