"""The folder in which a result grows before it gets its name, and what is needed to go on after an interruption.

For ``OUT`` the work lies in ``.partial-OUT`` beside it, and a journal in ``.partial-OUT.json``. The journal is replaced
in one step, after everything that it vouches for is on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerec.errors import DataError, UsageError
from facerec.fsio import atomic_write_text, fsync_folder

__all__ = ["WorkFolder", "folder_of_many_files", "full_disk_explained", "work_folder"]

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_TAKEN = frozenset((errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR))
"""What a folder cannot be renamed with where another has the name."""
_APPEARED = "{} has appeared in the meantime; move it away, then run the command again"


class WorkFolder:
    """The work towards one result, held by one process."""

    def __init__(self, out: Path, plan: str) -> None:
        """Name the files; ``plan`` is a digest of everything that the result depends on."""
        self.path = out.with_name(f".partial-{out.name}")
        self.journal_path = out.with_name(f".partial-{out.name}.json")
        self.journal: dict[str, Any] | None = None
        """What the last process noted; None at a fresh start."""
        self._out = out
        self._plan = plan
        self._lock = -1

    @property
    def remove_command(self) -> str:
        """What a user types to throw the work away."""
        return shlex.join(["rm", "-r", str(self.path), str(self.journal_path)])

    def open(self, *, restart: bool) -> None:
        """Take the folder: go on from its journal, or begin.

        Raises:
            UsageError: another process works in it, or it was begun from other images or with other options.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            self._lock = -1
            raise UsageError(f"another process writes {self._out} at this moment; wait for it or stop it") from error
        # Without files a journal is what a process left that ended just after it had given the result its name.
        journal = None if restart or not any(self.path.iterdir()) else self._read_journal()
        if journal is not None and journal.get("plan") != self._plan:
            self.close()
            raise UsageError(
                f"{self.path} is left from a command that was interrupted and had other images or options; repeat that "
                f"command, pass --restart, or remove it with: {self.remove_command}"
            )
        if journal is None:
            self._empty()
        for torn in self.path.glob(".partial-*"):
            # A file that a killed process was just writing would otherwise be published.
            torn.unlink()
        self.journal = journal

    def note(self, **facts: Any) -> None:
        """Replace the journal; everything that it names must be on the disk already."""
        self.journal = {"plan": self._plan, **facts}
        atomic_write_text(self.journal_path, json.dumps(self.journal))

    def publish(self) -> None:
        """Give the finished folder its name."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                descriptor = os.open(Path(folder) / name, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            fsync_folder(Path(folder))
        if self._out.exists():
            raise UsageError(_APPEARED.format(self._out))
        os.rename(self.path, self._out)
        fsync_folder(self._out.parent)
        self.journal_path.unlink(missing_ok=True)

    def close(self, *, discard: bool = False) -> None:
        """Let go of the folder, and remove it on ``discard``; a folder that another process holds stays as it is."""
        if self._lock >= 0:
            if discard:
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _read_journal(self) -> dict[str, Any] | None:
        try:
            journal: Any = json.loads(self.journal_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return journal if isinstance(journal, dict) else None

    def _empty(self) -> None:
        self.journal_path.unlink(missing_ok=True)
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


@contextmanager
def work_folder(out: Path, *, plan: str, restart: bool = False) -> Iterator[WorkFolder]:
    """Yield the work folder of ``out``; when the block ends well, ``out`` is there.

    When it fails, the work stays for another attempt, unless nothing was noted in the journal yet.

    Raises:
        UsageError: ``out`` exists, or the work cannot be taken up; see `WorkFolder.open`.
        DataError: the disk is full.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists already; remove it, or name another folder")
    work = WorkFolder(out, plan)
    advice = f"what is done is kept: free some space and run the same command, or remove it with: {work.remove_command}"
    try:
        with full_disk_explained(out, advice):
            work.open(restart=restart)
            yield work
            work.publish()
    finally:
        work.close(discard=work.journal is None)


@contextmanager
def folder_of_many_files(final: Path) -> Iterator[Path]:
    """Like `facerec.fsio.atomic_folder`, for thousands of small files: the disks are asked once to write all out.

    Raises:
        UsageError: ``final`` exists; nothing is ever written over.
        DataError: the disk is full.
    """
    if final.exists() or final.is_symlink():
        raise UsageError(f"{final} exists already; remove it, or name another folder")
    final.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_explained(final):
        partial = Path(tempfile.mkdtemp(prefix=f".partial-{final.name}-", dir=final.parent))
        try:
            inside = partial / final.name
            inside.mkdir()
            yield inside
            os.sync()
            os.rename(inside, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        fsync_folder(final.parent)


@contextmanager
def full_disk_explained(
    out: Path, advice: str = "nothing was left there; free some space, then run it again"
) -> Iterator[None]:
    """Turn the system's errors for a full disk, and for a result whose name is taken at the end, into a sentence.

    Raises:
        DataError: the disk, the quota or the limit of a file's length is exhausted.
        UsageError: another command has made ``out`` in the meantime.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _TAKEN and error.filename2 is not None:
            raise UsageError(_APPEARED.format(out)) from error
        if error.errno not in _FULL:
            raise
        raise DataError(f"no space is left for {out} ({error.strerror}); {advice}") from error
