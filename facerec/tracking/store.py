"""Reaching the MLflow tracking store."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from facerec.patience import limit_patience

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["connect", "fail_fast", "is_refusal", "reason", "resolve_tracking_uri", "shown_uri", "sqlite_file"]

_log = logging.getLogger(__name__)

_REFUSALS = {
    "ALREADY_EXISTS",
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "lustre", "gpfs", "beegfs", "ceph", "fuse")


def resolve_tracking_uri() -> str:
    """The store that MLflow would use here, with an absolute path where it is a local database."""
    import mlflow

    uri: str = mlflow.get_tracking_uri()
    database = sqlite_file(uri)
    return uri if database is None else f"sqlite:///{database.absolute()}"


def shown_uri(uri: str) -> str:
    """``uri`` without the password that it may hold."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))


def sqlite_file(uri: str) -> Path | None:
    """The database file of a local SQLite store; None for every other store."""
    if not uri.startswith("sqlite:///"):
        return None
    # SQLAlchemy takes the rest as it stands; it decodes nothing.
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(name) if name and name != ":memory:" else None


def fail_fast() -> Callable[[], None]:
    """Let MLflow try once and no more, except where the user has set a value; returns what undoes it.

    MLflow repeats writes blindly, and ours are repeated only after a look at the store.
    """
    return limit_patience(retries=0)


def connect(uri: str) -> MlflowClient:
    """A client of the store; a local database is created if need be, by one process at a time, and set to WAL.

    Raises:
        mlflow.exceptions.MlflowException: MLflow cannot use the store.
    """
    from mlflow import MlflowClient

    # MLflow prints whole tracebacks where a database is busy; the trackers say it in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    database = sqlite_file(uri)
    if database is None:
        return MlflowClient(tracking_uri=uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    # Processes that create the tables at the same time fail with "duplicate column name".
    with _exclusive(database.with_name(f"{database.name}.lock")):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    _prefer_wal(database)
    return client


def is_refusal(error: Exception) -> bool:
    """Whether sending the same again is pointless: the store answered, and it does not take this."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def reason(error: BaseException) -> str:
    """The first cause of an error in one line; what libraries say around it is long."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _log.debug("%s cannot be locked: %s", path, error)
        yield
    finally:
        os.close(descriptor)


def _prefer_wal(database: Path) -> None:
    """With a write-ahead log, readers such as the UI and several trainings do not hold each other up."""
    if _is_on_network(database):
        return  # A write-ahead log needs shared memory, which machines do not share.
    try:
        with closing(sqlite3.connect(database, timeout=1.0)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        _log.debug("%s stays without a write-ahead log: %s", database, error)


def _is_on_network(path: Path) -> bool:
    import psutil

    inside = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    if not inside:
        return False
    return max(inside, key=lambda part: len(part.mountpoint)).fstype.startswith(_NETWORK_FILE_SYSTEMS)
