"""The tracking store, the runs left open in it, and what waits to be sent to it."""

from __future__ import annotations

import importlib
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from facerec.errors import TrackingError
from facerec.tracking.health.check import Check
from facerec.tracking.replay import waiting_entries
from facerec.tracking.spool import spool_files
from facerec.tracking.store import fail_fast, is_refusal, reason, resolve_tracking_uri, shown_uri, sqlite_file
from facerec.tracking.sweep import StaleRun, close_stale_run, find_stale_runs

__all__ = ["check_spool", "check_store"]

_ANSWER_WITHIN_S = 8.0
_NAME = "tracking store"

T = TypeVar("T")


def check_store(*, fix: bool) -> list[Check]:
    """Whether the store answers, and which runs lie open in it; ``fix`` closes those whose process is gone.

    A store that does not exist yet is not created.
    """
    uri = resolve_tracking_uri()
    stale_files = [] if uri.startswith("file:") else _check_old_files()
    return [*(_check_address(uri) or _ask(uri, fix=fix)), *stale_files]


def check_spool(folder: Path) -> Check:
    """What waits for `facerec sync`."""
    waiting, running, problems = 0, 0, []
    for path in spool_files(folder):
        try:
            count = waiting_entries(path)
        except (OSError, TrackingError) as error:
            problems.append(str(error))
            continue
        running += count is None
        waiting += count or 0
    facts = {"waiting": waiting, "in_use": running}
    if waiting or problems:
        detail = "; ".join([f"{waiting} records in {folder} have not reached the store", *problems])
        return Check(name="spool", level="warn", detail=detail, advice=f"facerec sync --spool {folder}", facts=facts)
    in_use = f" ({running} in use by running trainings)" if running else ""
    return Check(name="spool", level="ok", detail=f"nothing waits in {folder}{in_use}", facts=facts)


def _check_address(uri: str) -> list[Check]:
    """What can be said without asking MLflow; empty where MLflow must be asked."""
    if uri.startswith("file:") or "://" not in uri:
        return [_check_file_store(uri)]
    database = sqlite_file(uri)
    return [] if database is None else _check_database(database, uri)


def _check_file_store(uri: str) -> Check:
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return Check(name=_NAME, level="warn", detail=f"{uri} is a file store, which MLflow no longer develops")
    if "MLFLOW_TRACKING_URI" in os.environ:
        advice = "unset MLFLOW_TRACKING_URI, or set it to sqlite:///mlflow.db"
        return Check(name=_NAME, level="fail", detail=f"{uri} is a file store, which MLflow refuses", advice=advice)
    return Check(
        name=_NAME,
        level="fail",
        detail="an old file store in ./mlruns makes MLflow choose file stores, which it then refuses",
        advice="move ./mlruns away, convert it by `mlflow migrate-filestore`, or set "
        "MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
    )


def _check_old_files() -> list[Check]:
    found = sorted(Path("mlruns").glob("[0-9]*/meta.yaml"))
    if not found:
        return []
    detail = f"{found[0]} is of an old file store; without MLFLOW_TRACKING_URI MLflow would choose it and refuse it"
    return [Check(name="old file store", level="warn", detail=detail, advice="move ./mlruns away")]


def _check_database(database: Path, uri: str) -> list[Check]:
    folder = next(parent for parent in database.absolute().parents if parent.exists())
    if not os.access(database if database.exists() else folder, os.W_OK):
        advice = "make it writable, or set MLFLOW_TRACKING_URI to another place"
        return [Check(name=_NAME, level="fail", detail=f"{database} cannot be written", advice=advice)]
    new = [Check(name=_NAME, level="ok", detail=f"{database} will be created", facts={"uri": uri})]
    if not database.exists() or database.stat().st_size == 0:
        return new
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'experiments'").fetchone()
    except sqlite3.OperationalError as error:
        advice = "another program holds it; trainings wait, and keep what they log in their spool"
        return [Check(name=_NAME, level="warn", detail=f"{database}: {error}", advice=advice)]
    except sqlite3.DatabaseError as error:
        advice = "move it away, or set MLFLOW_TRACKING_URI to another place"
        return [Check(name=_NAME, level="fail", detail=f"{database}: {error}", advice=advice)]
    return [] if tables[0] else new


def _ask(uri: str, *, fix: bool) -> list[Check]:
    """Ask MLflow, within bounded time."""
    if sqlite_file(uri) is not None:
        # Seconds of importing must not look like a store that does not answer.
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    restore_environment = fail_fast()
    try:
        stale = _within(_ANSWER_WITHIN_S, lambda: _stale_runs(uri, fix=fix))
    except Exception as error:  # noqa: BLE001 - stores raise whatever their libraries raise; all of it is a finding
        return [_describe_failure(uri, error)]
    finally:
        restore_environment()
    answers = Check(name=_NAME, level="ok", detail=f"{shown_uri(uri)} answers", facts={"uri": shown_uri(uri)})
    return [answers, _check_stale(stale, fix=fix)]


def _stale_runs(uri: str, *, fix: bool) -> list[StaleRun]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    stale = find_stale_runs(client)
    for run in stale if fix else []:
        close_stale_run(client, run)
    return stale


def _check_stale(stale: list[StaleRun], *, fix: bool) -> Check:
    facts = {"run_ids": [run.run_id for run in stale], "fixed": fix}
    names = ", ".join(f"{run.name} ({run.run_id[:8]})" for run in stale[:5])
    if not stale:
        return Check(name="open runs", level="ok", detail="no run was left open by a process that is gone", facts=facts)
    if fix:
        return Check(name="open runs", level="ok", detail=f"{len(stale)} marked as killed: {names}", facts=facts)
    detail = f"{len(stale)} left open by processes that are gone: {names}"
    return Check(name="open runs", level="warn", detail=detail, advice="facerec doctor --fix", facts=facts)


def _describe_failure(uri: str, error: Exception) -> Check:
    text = " ".join(str(error).split())
    if "out-of-date database schema" in text:
        advice = f"back it up, then run: mlflow db upgrade {shown_uri(uri)}"
        detail = f"{shown_uri(uri)} was made by another version of MLflow"
        return Check(name=_NAME, level="fail", detail=detail, advice=advice)
    if is_refusal(error):
        return Check(name=_NAME, level="fail", detail=f"{shown_uri(uri)} cannot be used: {text[:300]}")
    return Check(
        name=_NAME,
        level="fail",
        detail=f"{shown_uri(uri)} does not answer ({reason(error)})",
        advice="start the server or set MLFLOW_TRACKING_URI; until then trainings keep what they log in their spool",
    )


def _within(seconds: float, work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - handed on to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return results[0]
