"""Runs in MLflow, recorded by a thread of their own, so that no store can hold up or end a training.

What the training logs goes into a buffer. The thread moves it to a spool on the disk and from there to the store:
every five seconds, or when 500 events wait. While the store does not answer, the spool keeps what it has not taken.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from facerec.errors import TrackingError
from facerec.tracking.buffer import Buffer
from facerec.tracking.delivery import Delivery
from facerec.tracking.names import clean_name, clean_tags
from facerec.tracking.opening import describe_opening, new_session, pending_id
from facerec.tracking.snapshot import snapshot
from facerec.tracking.spool import Spool
from facerec.tracking.store import fail_fast, is_refusal, reason, resolve_tracking_uri, shown_uri
from facerec.training.tracker import ModelDescription, RunDescription, RunStatus

__all__ = ["MlflowTracker"]

_log = logging.getLogger(__name__)

_WAKE_AT_EVENTS = 500
_HEARTBEAT_S = 60.0
_LONGEST_PAUSE_S = 60.0
_LAST_PAUSE_S = 2.0
_START_WITHIN_S = 60.0


class MlflowTracker:
    """Implements `facerec.training.tracker.Tracker`; one object tracks one run.

    ``finish`` waits at most ``finish_within_s`` for the store.
    """

    def __init__(self, *, spool_dir: Path, flush_every_s: float = 5.0, finish_within_s: float = 30.0) -> None:
        self._spool_dir = spool_dir.absolute()
        self._flush_every_s = flush_every_s
        self._finish_within_s = finish_within_s
        self._buffer = Buffer()
        self._spool: Spool | None = None
        self._thread: threading.Thread | None = None
        self._uri = ""
        self._pending_id: str | None = None
        self._files = 0
        self._collecting = threading.Lock()
        self._wake = threading.Event()
        self._first_try = threading.Event()
        self._first_failure: Exception | None = None
        self._finishing = threading.Event()
        self._deadline = float("inf")
        self._restore_environment: Callable[[], None] = lambda: None

    @property
    def run_id(self) -> str | None:
        """The run's identity in the store; ``pending-…`` while the store has not given one, which can be resumed."""
        known = self._spool.run_id if self._spool is not None else None
        return known or self._pending_id

    def start(self, run: RunDescription) -> None:
        """Open the run; where the store does not answer, go on without it.

        Raises:
            TrackingError: the store answers and refuses the run, or MLflow cannot use it at all.
        """
        session = new_session()
        self._uri = resolve_tracking_uri()
        body = describe_opening(run, session=session)
        self._pending_id = pending_id(body)
        self._spool = Spool.create(self._spool_dir, session=session, tracking_uri=self._uri)
        self._spool.add("open", body)
        self._restore_environment = fail_fast()
        atexit.register(self._collect)
        self._thread = threading.Thread(target=self._serve, args=(self._spool,), name="facerec-tracking", daemon=True)
        self._thread.start()
        self._first_try.wait(_START_WITHIN_S)
        failure = self._first_failure
        if failure is not None and self._spool.run_id is None and is_refusal(failure):
            self._abandon(self._spool)
            raise TrackingError(f"the tracking store {shown_uri(self._uri)} refuses the run: {failure}") from failure

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of curves; costs microseconds. Names are made such as MLflow accepts."""
        self._buffer.add_metrics(metrics, step=step)
        if len(self._buffer) >= _WAKE_AT_EVENTS:
            self._wake.set()

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file, or a folder with its name and content, under ``folder`` of the run's artifacts.

        A file below 1 MB is copied at once and may be changed afterwards. A larger file or a folder is uploaded by
        the thread: it may be replaced or removed, but must not be changed in place.
        """
        if self._spool is None:
            return
        upload = self._kept(self._spool, path)
        if upload is not None:
            self._buffer.add_event("artifact", {"path": str(upload), "folder": folder.strip("/")})

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Keep a PNG for MLflow's image grid, which shows the pictures of a key by step."""
        if self._spool is None:
            return
        upload = self._kept(self._spool, path)
        if upload is not None:
            body = {"path": str(upload), "key": key, "step": step, "time_ms": time.time_ns() // 1_000_000}
            self._buffer.add_event("image", body)

    def log_model(self, model: ModelDescription) -> None:
        """Keep a saved model as an output of the run, each metric tied to the pair set that its key names.

        Raises:
            OSError: the model cannot be copied into the spool.
        """
        if self._spool is None:
            return
        self._files += 1
        place = self._spool.files_folder / f"{self._files:06d}"
        upload = snapshot(model.folder, folder=place)
        if not upload.is_relative_to(place):
            # The caller's folder is a temporary one, and /tmp is often another disk, to which nothing can be linked.
            upload = Path(shutil.copytree(model.folder, place / model.folder.name))
        parts = [
            {
                "dataset": data.name,
                "digest": data.digest,
                "values": {
                    clean_name(key): value
                    for key, value in model.metrics.items()
                    if key.startswith(f"eval/{data.name}/")
                },
            }
            for data in model.datasets
        ]
        self._buffer.add_event(
            "model",
            {
                "path": str(upload),
                "name": model.name,
                "step": model.step,
                "time_ms": time.time_ns() // 1_000_000,
                "params": model.params,
                "tags": clean_tags(model.tags),
                "metrics": parts,
            },
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._buffer.add_event("tags", {"tags": clean_tags(dict(tags))})

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Send what is left and close the run; what the store does not take in time stays in the spool."""
        if self._spool is None or self._thread is None:
            return
        end_ms = time.time_ns() // 1_000_000
        self._buffer.add_event("finish", {"status": status, "reason": reason, "end_ms": end_ms})
        self._collect()
        self._stop(within_s=self._finish_within_s)
        left = len(self._spool.waiting)
        if left:
            _log.warning(
                "%d records did not reach the tracking store and are kept in %s; send them later with "
                "`facerec sync --spool %s`",
                left,
                self._spool.path,
                self._spool_dir,
            )

    def _kept(self, spool: Spool, path: Path) -> Path | None:
        """What to upload of a file or folder, as it is now; None where it does not exist."""
        self._files += 1
        try:
            return snapshot(path, folder=spool.files_folder / f"{self._files:06d}")
        except FileNotFoundError:
            _log.warning("%s does not exist and is not kept with the run", path)
            return None
        except OSError as error:
            _log.warning("%s cannot be copied into the spool (%s); it is uploaded as it is later", path, error)
            return path.absolute()

    def _abandon(self, spool: Spool) -> None:
        spool.discard()
        self._stop(within_s=_LAST_PAUSE_S)

    def _stop(self, *, within_s: float) -> None:
        self._deadline = time.monotonic() + within_s
        self._finishing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within_s)
            self._thread = None
        atexit.unregister(self._collect)
        self._restore_environment()

    def _collect(self) -> None:
        """Move the buffer's content to the spool, on the disk."""
        if self._spool is not None:
            with self._collecting:
                for kind, body in self._buffer.take():
                    self._spool.add(kind, body)
                self._spool.write()

    def _serve(self, spool: Spool) -> None:
        """The thread: collect, send, wait; until the end is asked for and everything is sent, or time is up."""
        delivery = Delivery(spool, tracking_uri=self._uri, is_later=False)
        outage = _Outage(self._flush_every_s)
        beat_at = time.monotonic() + _HEARTBEAT_S
        try:
            while True:
                is_last = self._finishing.is_set()
                self._collect()
                if is_last or outage.is_over_due():
                    failure = delivery.attempt(is_over=self._is_time_up)
                    if delivery.store_answers and time.monotonic() >= beat_at and not is_last:
                        failure = delivery.beat() or failure
                        beat_at = time.monotonic() + _HEARTBEAT_S
                    if not self._first_try.is_set():
                        self._first_failure = failure
                        self._first_try.set()
                    is_only_refused = failure is not None and spool.run_id is not None and is_refusal(failure)
                    outage.note(None if is_only_refused else failure, spool=spool)
                if is_last and (self._is_time_up() or len(spool.waiting) <= len(delivery.refused)):
                    break
                left_s = max(0.0, self._deadline - time.monotonic())
                self._wake.wait(min(self._flush_every_s, left_s, _LAST_PAUSE_S if is_last else left_s))
                self._wake.clear()
        finally:
            self._first_try.set()
            spool.close()

    def _is_time_up(self) -> bool:
        return time.monotonic() >= self._deadline


class _Outage:
    """How long to leave a store alone that does not answer; says so once, and once when it is over."""

    def __init__(self, first_pause_s: float) -> None:
        self._first_pause_s = first_pause_s
        self._pause_s = 0.0
        self._next_s = 0.0

    def is_over_due(self) -> bool:
        return time.monotonic() >= self._next_s

    def note(self, failure: Exception | None, *, spool: Spool) -> None:
        if failure is None:
            if self._pause_s:
                _log.info("the tracking store answers again")
            self._pause_s = 0.0
        elif not self._pause_s:
            _log.warning(
                "the tracking store %s does not answer (%s); the training goes on, and what it logs waits in %s",
                shown_uri(spool.header["tracking_uri"]),
                reason(failure),
                spool.path,
            )
            self._pause_s = self._first_pause_s
        else:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._next_s = time.monotonic() + self._pause_s
