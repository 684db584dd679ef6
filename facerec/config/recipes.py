"""Configurations and studies by path or by name; those that come with the program are found from any folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from facerec.errors import MissingPathError, near_match

__all__ = ["Kind", "about", "find_file", "shipped"]

Kind = Literal["configs", "studies"]

_NOUNS: dict[Kind, str] = {"configs": "config file", "studies": "study file"}
_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = ".yaml"


def find_file(given: str | Path, *, kind: Kind) -> Path:
    """Resolve what a user wrote for a configuration or a study.

    It is a path; a path such as ``configs/demo.yaml`` below the folder that comes with the program, whatever the
    working folder is; or the bare name of a shipped file, such as ``demo``. A file of the user's counts more.

    Raises:
        MissingPathError: there is no such file; the message has a near match and the shipped names.
    """
    path = Path(given)
    candidates = [path]
    if not path.is_absolute():
        candidates.append(_shipped_folder() / path)
    if _is_bare(path):
        candidates.append(_shipped_folder() / kind / f"{path}{_SUFFIX}")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = list(shipped(kind))
    raise MissingPathError(
        f"{_NOUNS[kind]} {given} does not exist{near_match(str(given), [*_neighbours(path), *names])}; give a file, or "
        f"one that comes with the program by its name: {', '.join(names)}"
    )


def shipped(kind: Kind) -> dict[str, Path]:
    """The files that come with the program, by name."""
    return {path.stem: path for path in sorted((_shipped_folder() / kind).glob(f"*{_SUFFIX}"))}


def about(path: Path) -> str:
    """The first line of comment of a YAML file: what it is for."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _shipped_folder() -> Path:
    """Inside an installed wheel, or the checkout itself."""
    bundled = _PACKAGE / "_bundled"
    return bundled if bundled.is_dir() else _PACKAGE.parent


def _is_bare(path: Path) -> bool:
    return len(path.parts) == 1 and not path.suffix


def _neighbours(path: Path) -> Iterator[str]:
    folders = [path.parent] if path.is_absolute() else [path.parent, _shipped_folder() / path.parent]
    for folder in folders:
        yield from (str(path.parent / found.name) for found in folder.glob(f"*{_SUFFIX}"))
