"""What a mutation is, and how it is put into a copy of the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "Mutation", "apply_mutation"]

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One fault, and the tests that must notice it."""

    name: str
    promise: str
    """Of the design, such as C1; a dash where it is a matter of correctness alone."""
    file: str
    """Below ``facerec/``."""
    old: str
    """Stands exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    """Node ids of pytest, below ``tests/``."""

    @property
    def source(self) -> str:
        """The file, from the root of the project."""
        return f"facerec/{self.file}"


def apply_mutation(mutation: Mutation, *, root: Path) -> str:
    """Change the file below ``root``; returns what it held.

    Raises:
        ValueError: the old text does not stand there exactly once.
    """
    path = root / mutation.source
    content = path.read_text(encoding="utf-8")
    found = content.count(mutation.old)
    if found != 1:
        raise ValueError(f"{mutation.name}: its old text stands {found} times in {mutation.source}, not once")
    path.write_text(content.replace(mutation.old, mutation.new), encoding="utf-8")
    return content
