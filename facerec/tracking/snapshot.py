"""Copies of files that wait to be uploaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SMALL_FILE_BYTES", "drop_snapshot", "snapshot"]

SMALL_FILE_BYTES = 1_000_000


def snapshot(path: Path, *, folder: Path) -> Path:
    """Put ``path`` under ``folder`` as it is now; returns what to upload.

    A file below 1 MB is copied, so that the caller may change it at once. A larger file, or a folder, is linked where
    the file system allows it: it may then be replaced or removed, but must not be changed in place before it has been
    uploaded. Where no link is possible the original itself is returned, and it must stay.

    Raises:
        FileNotFoundError: ``path`` does not exist.
    """
    size_bytes = path.stat().st_size
    folder.mkdir(mode=0o700, parents=True)
    target = folder / path.name
    if path.is_file() and size_bytes < SMALL_FILE_BYTES:
        shutil.copyfile(path, target)
        return target
    try:
        for source, destination in _pairs(path, target):
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, destination)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return path.absolute()
    return target


def drop_snapshot(upload: Path, *, folder: Path) -> None:
    """Remove what `snapshot` put under ``folder``, once it is uploaded; an original stays."""
    if upload.is_relative_to(folder):
        shutil.rmtree(upload.parent, ignore_errors=True)


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if source.is_file():
        yield source.resolve(), target
        return
    target.mkdir()
    for root, _, names in os.walk(source):
        for name in names:
            inner = Path(root) / name
            yield inner.resolve(), target / inner.relative_to(source)
