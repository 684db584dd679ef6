"""Several trackers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from facerec.training.tracker import ModelDescription, RunDescription, RunStatus, Tracker

__all__ = ["TrackerGroup"]


class TrackerGroup:
    """Hands every call on to each of its trackers, in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    @property
    def run_id(self) -> str | None:
        """The identity from the first tracker that gives one."""
        return next((identity for tracker in self._trackers if (identity := tracker.run_id) is not None), None)

    def start(self, run: RunDescription) -> None:
        """Open the run everywhere; where one refuses, those that are open already are closed as failed."""
        with ExitStack() as opened:
            for tracker in self._trackers:
                tracker.start(run)
                opened.callback(tracker.finish, "FAILED", reason="another tracker could not start")
            opened.pop_all()

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of curves."""
        for tracker in self._trackers:
            tracker.log_metrics(metrics, step=step)

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file or a folder with the run."""
        for tracker in self._trackers:
            tracker.log_file(path, folder=folder)

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Keep a picture of a step."""
        for tracker in self._trackers:
            tracker.log_image(path, key=key, step=step)

    def log_model(self, model: ModelDescription) -> None:
        """Keep a model as what the run has made."""
        for tracker in self._trackers:
            tracker.log_model(model)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for tracker in self._trackers:
            tracker.set_tags(tags)

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Close the run everywhere, even where closing one of them fails."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.finish, status, reason=reason)
