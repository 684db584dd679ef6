"""One finding of an examination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Check", "Level", "is_healthy"]

Level = Literal["ok", "warn", "fail", "off"]
"""``off``: not available here, and not needed."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    level: Level
    detail: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same as plain data, for programs."""


def is_healthy(checks: Sequence[Check]) -> bool:
    """Whether nothing that the job needs has failed."""
    return all(check.level != "fail" for check in checks)
