"""Sending later what a store did not take while a training ran."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facerec.errors import TrackingError
from facerec.tracking.delivery import Delivery
from facerec.tracking.spool import Spool, spool_files
from facerec.tracking.store import fail_fast, reason, shown_uri

__all__ = ["SyncResult", "sync_folder", "waiting_entries"]


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What became of one spool file."""

    path: Path
    run_id: str | None
    sent: int
    left: int
    problem: str = ""
    """Why something is left; empty where nothing is."""


def sync_folder(folder: Path, *, tracking_uri: str | None = None) -> Iterator[SyncResult]:
    """Send every spool file in ``folder``, oldest first, to its own store or to ``tracking_uri``.

    A file whose entries have all been taken is removed. Files of trainings that still run are left alone. Running this
    again, also after it was interrupted, doubles nothing.
    """
    restore_environment = fail_fast()
    silent: set[str] = set()
    try:
        for path in spool_files(folder):
            yield _sync_file(path, tracking_uri=tracking_uri, silent=silent)
    finally:
        restore_environment()


def waiting_entries(path: Path) -> int | None:
    """Number of entries that wait in a spool file; None where a training still uses it.

    Raises:
        TrackingError: the file is no spool file.
    """
    spool = Spool.reopen(path)
    if spool is None:
        return None
    spool.release()
    return len(spool.waiting)


def _sync_file(path: Path, *, tracking_uri: str | None, silent: set[str]) -> SyncResult:
    try:
        spool = Spool.reopen(path)
    except (OSError, TrackingError) as error:
        return SyncResult(path=path, run_id=None, sent=0, left=0, problem=str(error))
    if spool is None:
        return SyncResult(path=path, run_id=None, sent=0, left=0, problem="a running training still uses it")
    uri = tracking_uri or spool.header["tracking_uri"]
    before = len(spool.waiting)
    delivery = Delivery(spool, tracking_uri=uri, is_later=True)
    problem = ""
    try:
        if uri in silent:
            problem = f"{shown_uri(uri)} does not answer"
        elif isinstance(failure := delivery.attempt(), TrackingError):
            problem = str(failure)
        elif failure is not None:
            problem = next(iter(delivery.refused.values()), f"{shown_uri(uri)} does not answer ({reason(failure)})")
            if not delivery.refused:
                silent.add(uri)
    finally:
        left = len(spool.waiting)
        spool.close()
    return SyncResult(path=path, run_id=spool.run_id, sent=before - left, left=left, problem=" ".join(problem.split()))
