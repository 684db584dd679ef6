"""What a check has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "Findings", "Kind"]

Kind = Literal[
    "magic",
    "length",
    "continuation",
    "padding",
    "index",
    "header",
    "property",
    "identity",
    "payload",
    "label",
    "image",
    "pairs",
]

_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault."""

    kind: Kind
    message: str
    """A sentence that names the place."""
    key: int | None = None
    """Of the record, where the index knows it; of the image in a pair set."""
    offset: int | None = None
    """Bytes from the start of the file."""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "key": self.key, "offset": self.offset, "message": self.message}


@dataclass(slots=True)
class Findings:
    """All faults; beyond some thousands they are only counted."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """By kind."""
    notes: list[str] = field(default_factory=list)
    """Peculiarities that are no faults."""

    def add(self, kind: Kind, message: str, *, key: int | None = None, offset: int | None = None) -> None:
        """Note a fault."""
        self.counts[kind] += 1
        if len(self.kept) < _KEPT:
            self.kept.append(Finding(kind, message, key=key, offset=offset))

    @property
    def total(self) -> int:
        """The number of faults."""
        return self.counts.total()
