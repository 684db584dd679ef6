"""Locks between the processes of a study: the kernel's, or where the file system has none, a link."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

__all__ = ["Lock", "held", "open_lock"]

_log = logging.getLogger("facerec")

_LONGEST_HOLD_S = 120
"""After so long a link counts as left by a process that died."""


class Lock(Protocol):
    """What Optuna's journal asks of a lock."""

    def acquire(self) -> bool:
        """Wait until nobody else has it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class _KernelLock:
    """A lock that the kernel takes back when its process dies; Optuna's own must time out after a kill."""

    def __init__(self, path: Path, on_acquire: Callable[[], None]) -> None:
        self._path = path
        self._on_acquire = on_acquire
        self._threads = threading.Lock()
        self._descriptor = -1

    def acquire(self) -> bool:
        self._threads.acquire()
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._on_acquire()
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._threads.release()


def open_lock(path: Path, *, on_acquire: Callable[[], None] = lambda: None) -> Lock:
    """The lock of ``path``, a file that other processes lock by the same name; its folder is made.

    ``on_acquire`` is called whenever the kernel has given the lock. Some network file systems have no kernel locks;
    there a link beside ``path`` serves, which is taken from its holder after two minutes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _KernelLock(path.with_name(f"{path.name}.flock"), on_acquire)
    try:
        lock.acquire()
        lock.release()
    except OSError as error:
        from optuna.storages.journal import JournalFileSymlinkLock

        _log.info("%s has no kernel locks (%s); a link serves as the lock", path, error)
        # The link's age is that of what it points at, so there must be a file.
        path.touch(exist_ok=True)
        return JournalFileSymlinkLock(str(path), grace_period=_LONGEST_HOLD_S)
    return lock


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Hold a lock for the block; one that was taken from us because we held it too long is not given back."""
    lock.acquire()
    try:
        yield
    finally:
        try:
            lock.release()
        except RuntimeError as error:
            _log.warning("a lock of the study was held for so long that another process has taken it (%s)", error)
