"""A database that is away for a while: what is asked of it meanwhile waits and is asked again."""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from facerec.errors import FacerecError, one_line
from facerec.training.interrupt import Interrupt

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["StorageAwayError", "wait_out_outages"]

_log = logging.getLogger("facerec")

_WITHIN_S = 300.0
_LONGEST_PAUSE_S = 5.0


class StorageAwayError(FacerecError):
    """The storage of a study has not answered for so long that its worker ends; its trial is taken up again later."""


def wait_out_outages(storage: BaseStorage, *, name: str, within_s: float = _WITHIN_S) -> BaseStorage:
    """The same storage, whose calls are repeated for ``within_s`` while the database cannot be reached.

    Whether the call before the outage arrived is not known, and each may be repeated: a trial that was created twice
    is a doubled slot, one that is closed already says so. ``name`` is for the message.

    Raises:
        StorageAwayError: from any call, after that time or when a signal asks to stop.
    """
    return cast("BaseStorage", _Patient(storage, name=name, within_s=within_s))


class _Patient:
    """Passes everything on to a storage; its calls share one memory of since when nothing has been answered."""

    def __init__(self, storage: BaseStorage, *, name: str, within_s: float) -> None:
        self._storage = storage
        self._name = name
        self._within_s = within_s
        self._lock = threading.Lock()
        self._away_since_s: float | None = None

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._storage, attribute)
        if attribute.startswith("_") or not callable(found):
            return found
        return functools.partial(self._call, found)

    def _call(self, ask: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        pause_s = 0.1
        while True:
            try:
                answer = ask(*arguments, **settings)
            except (StorageInternalError, SQLAlchemyError) as error:
                if not _is_outage(error):
                    raise
                self._note_failure(error)
            else:
                self._note_answer()
                return answer
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _note_failure(self, error: Exception) -> None:
        now_s = time.monotonic()
        reason = one_line(error.__cause__ or error)
        with self._lock:
            if self._away_since_s is None:
                self._away_since_s = now_s
                _log.warning("the storage %s does not answer (%s); waiting for it", self._name, reason)
            away_s = now_s - self._away_since_s
        if away_s >= self._within_s or _is_told_to_stop():
            raise StorageAwayError(
                f"the storage {self._name} has not answered for {away_s:.0f} s ({reason}); when it does again, give "
                "the same command to go on"
            ) from error

    def _note_answer(self) -> None:
        with self._lock:
            if self._away_since_s is not None:
                _log.info("the storage %s answers again", self._name)
            self._away_since_s = None


def _is_outage(error: BaseException) -> bool:
    """Whether the database could not be reached or was busy, and not that it refused what it was asked."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    while True:
        if isinstance(error, (OperationalError, InterfaceError)):
            return True
        cause = error.__cause__ or error.__context__
        if cause is None:
            return False
        error = cause


def _is_told_to_stop() -> bool:
    """Whether a signal has come to the innermost `Interrupt`; that of a training may lie inside that of a worker."""
    holder = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return isinstance(holder, Interrupt) and holder.requested
