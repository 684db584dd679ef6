"""The run of a tuning study, with the runs of its trials under it."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerec.config.schema import Config
from facerec.tracking.build import build_tracker
from facerec.tracking.mlflow_run import send_points
from facerec.tracking.names import clean_name
from facerec.tracking.process import PID_TAG, REASON_TAG
from facerec.tracking.store import connect, resolve_tracking_uri
from facerec.tracking.store import reason as reason_of
from facerec.training.tracker import ModelDescription, RunDescription, RunStatus, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["StudyRun"]

_log = logging.getLogger(__name__)

_PARENT_TAG = "mlflow.parentRunId"
_PENDING = "pending-"


class StudyRun:
    """Implements `facerec.tuning.tracker.StudyTracker` for whatever the configuration's logging asks for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._run: Tracker | None = None
        self._parent_id: str | None = None

    @property
    def run_id(self) -> str | None:
        """The identity of the study's run, once it is known."""
        return self._run.run_id if self._run is not None else self._parent_id

    def open(self, *, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None) -> None:
        """Open the study's run, or go on with ``run_id``."""
        logging_only = dataclasses.replace(self._config.logging, tensorboard=False)
        self._run = build_tracker(
            dataclasses.replace(self._config, logging=logging_only), log_folder=Path(self._config.logging.log_dir)
        )
        self._run.start(
            RunDescription(
                name=name,
                experiment=self._config.logging.experiment,
                params=dict(params),
                tags=dict(tags),
                resume_run_id=run_id,
            )
        )
        self._parent_id = self._run.run_id

    def join(self, run_id: str | None) -> None:
        """Record trials under a run that another process has opened."""
        self._parent_id = run_id

    def trial(
        self, *, name: str, tags: Mapping[str, str], keeps_pictures: bool, on_start: Callable[[str], None]
    ) -> Tracker:
        """The tracker of one trial, whose run lies under the study's."""
        inner = build_tracker(self._config, log_folder=Path(self._config.logging.log_dir) / name.replace(" ", "_"))
        return _TrialTracker(
            inner,
            name=name,
            tags={**tags, **self.parent_tags()},
            left_out=("checkpoints",) if keeps_pictures else ("checkpoints", "pictures"),
            on_start=on_start,
        )

    def parent_tags(self) -> dict[str, str]:
        """Tags that put a run which another process opens under the study's; none while its identity is not known."""
        is_known = self._parent_id is not None and not self._parent_id.startswith(_PENDING)
        return {_PARENT_TAG: str(self._parent_id)} if is_known else {}

    def close_lost(self, run_id: str, *, reason: str) -> None:
        """Mark the run of a trial whose worker died as failed; a store that does not answer only costs the mark."""

        def close(client: MlflowClient) -> None:
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_tag(run_id, REASON_TAG, reason)
                client.set_terminated(run_id, "FAILED")

        self._try(run_id, close, otherwise="of a lost trial stays open")

    def add_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values in a run that other processes have closed; without an answer of the store they are left out."""
        now_ms = time.time_ns() // 1_000_000
        points = [(clean_name(key), value, step, now_ms) for key, value in metrics.items() if math.isfinite(value)]
        self._try(run_id, lambda client: send_points(client, run_id, points), otherwise="lacks its reported metrics")

    def leave(self) -> None:
        """Record no more, and leave the run open, without an owner, to the other machines that work on the study."""
        if self._run is None:
            return
        run_id = self._run.run_id or ""
        self._run.finish("KILLED")

        def reopen(client: MlflowClient) -> None:
            client.update_run(run_id, status="RUNNING")
            client.set_tag(run_id, PID_TAG, "")

        if run_id:
            self._try(run_id, reopen, otherwise="counts as stopped though others work on it")

    def _try(self, run_id: str, do: Callable[[MlflowClient], None], *, otherwise: str) -> None:
        if not self._config.logging.mlflow or run_id.startswith(_PENDING):
            return
        from mlflow.exceptions import MlflowException

        try:
            do(connect(resolve_tracking_uri()))
        except (MlflowException, OSError) as error:
            _log.warning("the run %s %s: %s", run_id, otherwise, reason_of(error))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of the study."""
        if self._run is not None:
            self._run.log_metrics(metrics, step=step)

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file or a folder with the study's run."""
        if self._run is not None:
            self._run.log_file(path, folder=folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the study's run."""
        if self._run is not None:
            self._run.set_tags(tags)

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Close the study's run."""
        if self._run is not None:
            self._run.finish(status, reason=reason)


class _TrialTracker:
    """A tracker whose run lies under another, has its own name, and leaves out some files."""

    def __init__(
        self,
        inner: Tracker,
        *,
        name: str,
        tags: Mapping[str, str],
        left_out: tuple[str, ...],
        on_start: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._name = name
        self._tags = dict(tags)
        self._left_out = left_out
        self._on_start = on_start

    @property
    def run_id(self) -> str | None:
        """The run's identity in the store."""
        return self._inner.run_id

    def start(self, run: RunDescription) -> None:
        """Open the run under its parent."""
        self._inner.start(dataclasses.replace(run, name=self._name, tags={**run.tags, **self._tags}))
        if self._inner.run_id is not None:
            self._on_start(self._inner.run_id)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of curves."""
        self._inner.log_metrics(metrics, step=step)

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file, unless it lies in a folder that trials leave out."""
        if folder.split("/")[0] not in self._left_out:
            self._inner.log_file(path, folder=folder)

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Keep a picture of a step, where the trial keeps pictures."""
        if "pictures" not in self._left_out:
            self._inner.log_image(path, key=key, step=step)

    def log_model(self, model: ModelDescription) -> None:
        """Do nothing: trials keep no weights."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._inner.set_tags(tags)

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Close the run."""
        self._inner.finish(status, reason=reason)
