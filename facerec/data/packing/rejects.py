"""Files that were left out, with the reason for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from facerec.data.packing.identity_names import escape
from facerec.fsio import atomic_write_bytes

__all__ = ["REJECTED_FILE", "Rejected", "write_rejected"]

REJECTED_FILE = "rejected.tsv"


class Rejected(NamedTuple):
    """A file of the source that is not in the result."""

    path: str
    """Relative to the source."""
    reason: str


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write ``path<TAB>reason`` per line, sorted by path."""
    lines = ["path\treason", *(f"{escape(row.path)}\t{escape(row.reason)}" for row in sorted(rejected))]
    atomic_write_bytes(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
