"""Where a study is kept: a journal file, or any database that SQLAlchemy reaches."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerec.errors import ConfigError, FacerecError, one_line
from facerec.tuning.locks import open_lock
from facerec.tuning.outages import wait_out_outages

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["JOURNAL_NAME", "open_storage", "shown_storage", "storage_problem"]

JOURNAL_NAME = "journal.log"

_DRIVERS = {"postgresql": ("psycopg", "postgres")}
_FIRST_TRY_S = 30.0


def storage_problem(text: str) -> str:
    """Why a storage cannot be used, or an empty text."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return ""
    kind = scheme.partition("+")[0]
    if kind not in ("sqlite", "postgresql", "mysql"):
        return f"'{scheme}' is no storage; use a path, sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    if kind == "sqlite" and not rest.startswith("/"):
        return "write sqlite:///FILE, with three slashes"
    if kind == "sqlite" and rest.partition("?")[0] in ("/", "/:memory:"):
        return "names no file, and a study in memory is seen by one process alone; write sqlite:///FILE"
    return ""


def shown_storage(text: str) -> str:
    """The storage without the password that its URL may hold."""
    text = re.sub(r"([?&]password=)[^&]*", r"\1***", text)
    scheme, separator, rest = text.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}://{account.partition(':')[0]}:***@{place}" if separator and at and ":" in account else text


def open_storage(text: str | None, *, folder: Path) -> BaseStorage:
    """Open or create the storage; None means the journal in the study's folder.

    Raises:
        ConfigError: a driver is missing, or the text names no storage.
        FacerecError: the database does not answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if text is None or "://" not in text:
        return _open_journal(folder / JOURNAL_NAME if text is None else Path(text))
    if problem := storage_problem(text):
        raise ConfigError(f"storage: {problem}")
    return _open_database(text)


def _open_journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = open_lock(path, on_acquire=lambda: _cut_torn_line(path))
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without its end, which a crash has left: a line after it would make both unreadable."""
    try:
        with path.open("rb+") as stream:
            size = stream.seek(0, os.SEEK_END)
            if not size:
                return
            stream.seek(size - 1)
            if stream.read(1) == b"\n":
                return
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
    except FileNotFoundError:
        return


def _open_database(url: str) -> BaseStorage:
    import sqlalchemy.exc
    from optuna.storages import RDBStorage, get_storage

    scheme, _, rest = url.partition("://")
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if scheme == "sqlite":
        Path(rest.removeprefix("/")).absolute().parent.mkdir(parents=True, exist_ok=True)
        engine["connect_args"] = {"timeout": 60}
    if scheme in _DRIVERS:
        driver, extra = _DRIVERS[scheme]
        if not _is_installed(driver):
            raise ConfigError(f"storage: {scheme} needs the package {driver}; install the extra '{extra}'")
        url = f"{scheme}+{driver}://{rest}"
    deadline = time.monotonic() + _FIRST_TRY_S
    while True:
        try:
            # Wrapped here: each study would wrap it again, with a memory of trials that ours does not share.
            return wait_out_outages(get_storage(RDBStorage(url, engine_kwargs=engine)), name=shown_storage(url))
        except ImportError as error:
            raise ConfigError(f"storage: the package that {scheme} needs is not installed") from error
        except (ValueError, sqlalchemy.exc.ArgumentError) as error:
            raise ConfigError(f"storage: {shown_storage(url)} is no address of a database") from error
        except (
            sqlalchemy.exc.OperationalError,
            sqlalchemy.exc.IntegrityError,
            sqlalchemy.exc.ProgrammingError,
        ) as error:
            # Processes that create the tables at the same time get in each other's way; a second look finds them.
            if time.monotonic() > deadline or "connection" in str(error).lower():
                reason = one_line(error.__cause__ or error)
                raise FacerecError(f"the storage {shown_storage(url)} cannot be used: {reason}") from error
            time.sleep(0.5)


def _is_installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
