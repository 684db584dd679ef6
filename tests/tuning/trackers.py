"""Trackers that remember what they were told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facerec.tracking.null import NullTracker
from facerec.training.tracker import RunDescription, RunStatus, Tracker

__all__ = ["RememberedRun", "RememberingTracker"]


@dataclass
class RememberedRun:
    """A run of a trial."""

    name: str
    tags: dict[str, str]
    params: dict[str, Any] = field(default_factory=dict)
    status: str = ""
    reason: str = ""


class _TrialTracker(NullTracker):
    def __init__(self, run: RememberedRun) -> None:
        self._run = run

    def start(self, run: RunDescription) -> None:
        self._run.params = run.params

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        self._run.status, self._run.reason = status, reason


class RememberingTracker:
    """A tracker of a study whose store takes its time; all runs that it has made have names of their own."""

    def __init__(self, name: str = "run", *, seconds: float = 0.0) -> None:
        self._name = name
        self._seconds = seconds
        self.run_id: str | None = None
        self.created: list[str] = []
        self.ended: list[str] = []
        self.runs: list[RememberedRun] = []

    def open(self, *, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None) -> None:
        time.sleep(self._seconds)
        self.run_id = run_id or self._name
        self.created += [] if run_id else [self._name]

    def join(self, run_id: str | None) -> None:
        self.run_id = run_id

    def trial(
        self, *, name: str, tags: Mapping[str, str], keeps_pictures: bool, on_start: Callable[[str], None]
    ) -> Tracker:
        self.runs.append(RememberedRun(name=name, tags=dict(tags)))
        return _TrialTracker(self.runs[-1])

    def parent_tags(self) -> dict[str, str]:
        return {}

    def close_lost(self, run_id: str, *, reason: str) -> None:
        self.ended.append(f"lost {run_id}")

    def add_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None: ...

    def leave(self) -> None:
        self.ended.append("left")

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None: ...

    def log_file(self, path: Path, *, folder: str = "") -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        self.ended.append(status)
