"""Sending a spool's entries to the store, in order, each exactly once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from facerec.errors import TrackingError
from facerec.tracking.images import send_image
from facerec.tracking.logged_model import send_model
from facerec.tracking.mlflow_run import (
    Known,
    is_taken_over,
    open_run,
    owns_run,
    send_artifact,
    send_finish,
    send_points,
    send_tags,
    unknown_points,
)
from facerec.tracking.process import HEARTBEAT_TAG, utc_now
from facerec.tracking.snapshot import drop_snapshot
from facerec.tracking.spool import Entry, Spool
from facerec.tracking.store import connect, is_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Delivery"]

_log = logging.getLogger(__name__)

_FILES = ("artifact", "image", "model")


class Delivery:
    """Sends what waits in a spool.

    An entry whose sending failed may have arrived all the same. Tags, parameters, files and the status may be sent
    twice without harm; a run and a model are looked for by their keys, and the points of a curve are compared with
    the store first. So are those of a session that goes on with the run of another, which has done some of its steps.
    ``is_later`` says that the session has ended, so that its entries may have been tried before.
    """

    def __init__(self, spool: Spool, *, tracking_uri: str, is_later: bool) -> None:
        self.refused: dict[int, str] = {}
        self._spool = spool
        self._uri = tracking_uri
        self._is_later = is_later
        self._client: MlflowClient | None = None
        self._tried: set[int] = set()
        self._owns: bool | None = None if is_later else True
        self._goes_on = False
        self._histories: dict[str, set[Known]] = {}
        self.store_answers = True
        """Whether the last attempt failed in files alone, if at all."""

    def attempt(self, *, is_over: Callable[[], bool] = lambda: False) -> Exception | None:
        """Send everything that waits, until something fails or ``is_over``; returns the first failure.

        Files go by their own way to their own store, so a failure there does not hold up the rest. What the store
        refuses is noted in ``refused`` and stays in the spool.
        """
        failure: Exception | None = None
        files_fail = False
        self.store_answers = True
        for entry in self._spool.waiting:
            if is_over():
                break
            if entry.number in self.refused or (entry.kind in _FILES and files_fail):
                continue
            error = self._try(entry)
            if error is None:
                continue
            failure = failure or error
            if entry.kind != "open" and is_refusal(error):
                self._refuse(entry, error)
            elif entry.kind in _FILES:
                files_fail = True
            else:
                self.store_answers = False
                break
        return failure

    def beat(self) -> Exception | None:
        """Show in the store that this process lives."""
        try:
            if self._client is not None and self._spool.run_id is not None:
                self._client.set_tag(self._spool.run_id, HEARTBEAT_TAG, utc_now())
        except Exception as error:  # noqa: BLE001 - see `_try`
            return error
        return None

    def _try(self, entry: Entry) -> Exception | None:
        again = self._is_later or entry.number in self._tried
        self._tried.add(entry.number)
        try:
            if self._client is None:
                self._client = connect(self._uri)
            run_id = self._send(self._client, entry, again=again)
        except Exception as error:  # noqa: BLE001 - stores raise whatever their libraries raise; none may end a training
            return error
        self._spool.acknowledge(entry, run_id=run_id)
        if entry.kind in _FILES:
            drop_snapshot(Path(entry.body["path"]), folder=self._spool.files_folder)
        return None

    def _send(self, client: MlflowClient, entry: Entry, *, again: bool) -> str:
        body = entry.body
        if entry.kind == "open":
            session = self._spool.header["session"]
            self._goes_on = body.get("goes_on", False)
            return open_run(client, body, session=session, maybe_created=again or body["maybe_created"])
        run_id = self._spool.run_id
        if run_id is None:
            raise LookupError("the run is not open")
        if entry.kind == "metrics":
            points = body["points"]
            if again or self._goes_on:
                self._prepare_comparison(client, run_id, again=again)
                points = unknown_points(client, run_id, points, histories=self._histories)
            send_points(client, run_id, points)
        elif entry.kind in _FILES:
            self._send_files(client, run_id, entry)
        elif self._owns_run(client, run_id):
            if entry.kind == "tags":
                send_tags(client, run_id, body["tags"])
            else:
                send_finish(client, run_id, **body)
        return run_id

    def _send_files(self, client: MlflowClient, run_id: str, entry: Entry) -> None:
        path = Path(entry.body["path"])
        if path.exists() and entry.kind == "model":
            send_model(client, run_id, entry.body, session=self._spool.header["session"])
        elif path.exists() and entry.kind == "image":
            send_image(client, run_id, entry.body)
        elif path.exists():
            send_artifact(client, run_id, path=path, folder=entry.body["folder"])
        else:
            _log.warning("%s was removed before it was uploaded to run %s", path, run_id)

    def _prepare_comparison(self, client: MlflowClient, run_id: str, *, again: bool) -> None:
        if not self._is_later:
            if again:
                self._histories.clear()  # The attempt that failed may have added to them.
            return
        session = self._spool.header["session"]
        if not self._histories and is_taken_over(client.get_run(run_id), session=session):
            # That training does the last steps of this one again, and has read already which of them the store holds.
            raise TrackingError(f"a later training goes on with run {run_id}; send this when that has ended")

    def _owns_run(self, client: MlflowClient, run_id: str) -> bool:
        if self._owns is None:
            self._owns = owns_run(client.get_run(run_id), session=self._spool.header["session"])
        return self._owns

    def _refuse(self, entry: Entry, error: Exception) -> None:
        # A run that somebody has deleted refuses everything; once is enough to say so.
        level = logging.DEBUG if self.refused else logging.WARNING
        _log.log(level, "the tracking store refuses %s, which stay in %s: %s", entry.kind, self._spool.path, error)
        self.refused[entry.number] = str(error)
