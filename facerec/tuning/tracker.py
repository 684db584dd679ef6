"""What a study needs of a tracker; the adapters live in ``facerec.tracking``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from facerec.training.tracker import RunStatus, Tracker

__all__ = ["StudyTracker"]


class StudyTracker(Protocol):
    """A place that the run of a study and the runs of its trials are recorded in."""

    @property
    def run_id(self) -> str | None:
        """The identity of the study's run, once it is known."""

    def open(self, *, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None) -> None:
        """Open the study's run, or go on with ``run_id``."""

    def join(self, run_id: str | None) -> None:
        """Record trials under a run that another process has opened."""

    def trial(
        self, *, name: str, tags: Mapping[str, str], keeps_pictures: bool, on_start: Callable[[str], None]
    ) -> Tracker:
        """The tracker of one trial, whose run lies under the study's; ``on_start`` is told the run's identity.

        Weights are never kept with it.
        """

    def parent_tags(self) -> dict[str, str]:
        """Tags that put a run which another process opens under the study's."""

    def close_lost(self, run_id: str, *, reason: str) -> None:
        """Mark the run of a trial whose worker died as failed."""

    def add_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values in the run of a trial that other processes have opened and closed."""

    def leave(self) -> None:
        """Record no more in the study's run, and leave it open to the other machines that work on the study."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of the study."""

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file or a folder with the study's run."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the study's run."""

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Close the study's run."""
