"""A tracker that records nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from facerec.training.tracker import ModelDescription, RunDescription, RunStatus

__all__ = ["NullTracker"]


class NullTracker:
    """For trainings that nobody tracks, and for every rank but the first."""

    @property
    def run_id(self) -> str | None:
        """None: there is no store."""
        return None

    def start(self, run: RunDescription) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Do nothing."""

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Do nothing."""

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Do nothing."""

    def log_model(self, model: ModelDescription) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Do nothing."""
