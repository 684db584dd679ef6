"""Files that survive a crash: written beside their final name, synchronised, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerec.errors import CheckpointError

__all__ = [
    "atomic_folder",
    "atomic_write_bytes",
    "atomic_write_text",
    "check_manifest",
    "fsync_folder",
    "point_link_at",
    "sha256_file",
    "whole_file",
    "write_manifest",
]

_PARTIAL = ".partial-"
_MANIFEST = "manifest.json"


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before."""
    with whole_file(path) as draft:
        draft.write_bytes(content)


def atomic_write_text(path: Path, content: str) -> None:
    """Like `atomic_write_bytes`, in UTF-8."""
    atomic_write_bytes(path, content.encode("utf-8"))


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """Yield an empty file beside ``final`` that takes its name once the block is through and all is on the disk.

    A block that raises leaves ``final`` as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{_PARTIAL}{final.stem}-", suffix=final.suffix, dir=final.parent)
    os.close(descriptor)
    try:
        os.chmod(name, 0o666 & ~_umask())
        yield Path(name)
        with open(name, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(name, final)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_folder(final.parent)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder that gets the name ``final`` once the block is through and all is on the disk.

    Raises:
        FileExistsError: ``final`` exists already; nothing is ever written over.
    """
    if final.exists():
        raise FileExistsError(f"{final} exists already")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{final.name}-", dir=final.parent))
    try:
        os.chmod(partial, 0o777 & ~_umask())
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                _fsync_file(Path(folder) / name)
            fsync_folder(Path(folder))
        os.rename(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync_folder(final.parent)


def point_link_at(link: Path, target_name: str) -> None:
    """Make ``link`` a symbolic link to its sibling ``target_name``, replacing an older link in one step."""
    temporary = link.with_name(f"{_PARTIAL}{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target_name)
    os.replace(temporary, link)
    fsync_folder(link.parent)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, **facts: Any) -> None:
    """Write ``manifest.json``: the size and SHA-256 of every file in ``folder``, and ``facts`` as plain data."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != _MANIFEST
    }
    (folder / _MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=2), encoding="utf-8")


def check_manifest(folder: Path) -> dict[str, Any]:
    """Compare a folder with its manifest; returns the manifest.

    Raises:
        CheckpointError: the manifest is missing or unreadable, or a file is missing, changed or not listed.
    """
    path = folder / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        listed = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: it has no {_MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged; use another checkpoint of the run") from error
    present = {entry.name for entry in folder.iterdir()} - {_MANIFEST}
    if missing := sorted(set(listed) - present):
        raise CheckpointError(f"checkpoint {folder} is damaged: {missing[0]} is missing; use another checkpoint")
    if added := sorted(present - set(listed)):
        raise CheckpointError(f"checkpoint {folder} holds {added[0]}, which its manifest does not list; remove it")
    for name, digest in listed.items():
        if sha256_file(folder / name) != digest:
            raise CheckpointError(f"checkpoint {folder} is damaged: {name} has changed; use another checkpoint")
    return manifest


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
