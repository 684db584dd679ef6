"""A file of what a run has logged and of what the store has acknowledged.

One file per session (a process that tracks a run). Each line is a JSON object: first a header, then entries with a
number, then ``{"sent": number}`` for each entry that the store has taken. Whatever has no acknowledgement is still to
be sent, by the training itself or later by `facerec sync`. A line that a crash cut off is not an entry.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.errors import TrackingError

__all__ = ["DEFAULT_SPOOL_DIR", "Entry", "Spool", "spool_files"]

DEFAULT_SPOOL_DIR = Path("facerec-spool")

_log = logging.getLogger(__name__)
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing to tell the store."""

    number: int
    kind: str
    """open, metrics, tags, artifact, image, model or finish."""
    body: dict[str, Any]


def spool_files(folder: Path) -> list[Path]:
    """The spool files in ``folder``, oldest session first."""
    return sorted(folder.glob("*.jsonl"))


class Spool:
    """The entries of one session, on the disk where that can be written and in memory in any case.

    Entries are kept in memory as well, so that a full disk loses nothing while the store answers. All methods may be
    called from several threads. The file stays locked until `close`, which tells others that a process still uses it.
    """

    def __init__(self, path: Path, *, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        self.run_id: str | None = None
        self.write_error: OSError | None = None
        self._lock = threading.RLock()
        self._waiting: dict[int, Entry] = {}
        self._unwritten: list[dict[str, Any]] = []
        self._next_number = 1
        self._descriptor: int | None = None
        self._torn = False

    @classmethod
    def create(cls, folder: Path, *, session: str, tracking_uri: str) -> Spool:
        """Begin a session; `write` puts it on the disk."""
        header = {"version": _VERSION, "session": session, "tracking_uri": tracking_uri}
        spool = cls(folder / f"{session}.jsonl", header=header)
        spool._unwritten.append(header)
        return spool

    @classmethod
    def reopen(cls, path: Path) -> Spool | None:
        """Take up a session of an earlier process; None where a process still uses it.

        Raises:
            TrackingError: the file has no readable header.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            content = path.read_bytes()
            spool = cls(path, header=_header(path, content))
        except (OSError, TrackingError):
            os.close(descriptor)
            raise
        spool._descriptor = descriptor
        spool._torn = not content.endswith(b"\n")
        for record in _records(content):
            spool._replay(record)
        return spool

    @property
    def files_folder(self) -> Path:
        """Where copies of files wait."""
        return self.path.with_suffix("")

    @property
    def waiting(self) -> list[Entry]:
        """Entries without an acknowledgement, in order."""
        with self._lock:
            return list(self._waiting.values())

    def add(self, kind: str, body: dict[str, Any]) -> None:
        """Take in an entry; `write` makes it durable."""
        with self._lock:
            entry = Entry(number=self._next_number, kind=kind, body=body)
            self._next_number += 1
            self._waiting[entry.number] = entry
            self._unwritten.append({"number": entry.number, "kind": kind, "body": body})

    def write(self) -> None:
        """Put new entries on the disk, durably; what fails is tried again the next time."""
        with self._lock:
            if not self._unwritten:
                return
            try:
                self._append(self._unwritten, durable=True)
            except OSError as error:
                if self.write_error is None:
                    _log.warning(
                        "the spool %s cannot be written (%s); until it can, what the tracking store does not take "
                        "is kept in memory only",
                        self.path,
                        error,
                    )
                self.write_error = error
            else:
                self._unwritten.clear()
                self.write_error = None

    def acknowledge(self, entry: Entry, *, run_id: str) -> None:
        """Record that the store has taken ``entry``."""
        with self._lock:
            self.run_id = run_id
            self._waiting.pop(entry.number, None)
            self._unwritten = [record for record in self._unwritten if record.get("number") != entry.number]
            if self._descriptor is not None:
                try:
                    # Not synchronised: an acknowledgement that a power cut takes only leads to a comparison later.
                    self._append([{"sent": entry.number, "run_id": run_id}], durable=False)
                except OSError as error:
                    self.write_error = error

    def close(self) -> None:
        """Release the file; where nothing waits any more, remove it."""
        with self._lock:
            if self._waiting:
                self.write()
            else:
                self.path.unlink(missing_ok=True)
                shutil.rmtree(self.files_folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    self.path.parent.rmdir()  # Only an empty folder can be removed.
            self.release()

    def release(self) -> None:
        """Release the file as it is."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def discard(self) -> None:
        """Forget everything that waits."""
        with self._lock:
            self._waiting.clear()
            self._unwritten.clear()

    def _append(self, records: list[dict[str, Any]], *, durable: bool) -> None:
        if self._descriptor is None:
            self._descriptor = self._open_new()
        lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        remaining = memoryview((("\n" if self._torn else "") + lines).encode())
        self._torn = True
        while remaining:
            remaining = remaining[os.write(self._descriptor, remaining) :]
        self._torn = False
        if durable:
            os.fsync(self._descriptor)

    def _open_new(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Parameters and the store's address may hold what is not for others to read.
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _replay(self, record: dict[str, Any]) -> None:
        if "sent" in record:
            self._waiting.pop(record["sent"], None)
            self.run_id = record["run_id"]
        elif "number" in record:
            self._waiting[record["number"]] = Entry(**record)
            self._next_number = record["number"] + 1


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _header(path: Path, content: bytes) -> dict[str, Any]:
    header = next(_records(content), {})
    if header.get("version") != _VERSION:
        raise TrackingError(f"{path} is no spool file that this version reads; move it away or use the other version")
    return header
