"""What the training loop needs of a tracker; the adapters live in ``facerec.tracking``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["DatasetDescription", "ModelDescription", "RunDescription", "RunStatus", "Tracker"]

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class DatasetDescription:
    """A data set that a run used."""

    name: str
    digest: str
    """Hexadecimal digest of the content."""
    context: Literal["train", "eval"]
    source: str
    """Where it lies."""
    facts: dict[str, int] = field(default_factory=dict)
    """Counts such as images, identities, pairs."""


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What is known of a run before its first step."""

    name: str
    experiment: str
    params: dict[str, Any]
    """Flat: dotted configuration keys and what the run found (versions, device, hashes)."""
    tags: dict[str, str]
    datasets: tuple[DatasetDescription, ...] = ()
    resume_run_id: str | None = None
    """The run of an interrupted training that goes on; metrics are appended to it."""
    resume_step: int | None = None
    """The update after which it goes on; what curves hold of later ones will come again."""
    folder_name: str = ""
    """Name of the run's folder, for trackers that write folders of their own."""


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """A model that a run has made."""

    folder: Path
    """The saved model; it may be removed once the tracker has been told."""
    name: str
    step: int
    """The epoch that it comes from."""
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    """Keys of evaluations, ``eval/<set>/…``, as they were logged at ``step``."""
    datasets: tuple[DatasetDescription, ...] = ()
    """The pair sets that the metrics come from, by their names."""


class Tracker(Protocol):
    """A place that runs are recorded in. No call may block the training for long or end it."""

    @property
    def run_id(self) -> str | None:
        """The run's identity in the store, once `start` has been called."""

    def start(self, run: RunDescription) -> None:
        """Open the run."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of curves. Cheap: it may buffer. Values that are not finite are left out."""

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Keep a file, or a folder with its content, with the run."""

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Keep a PNG as the picture ``key`` of a step, to be leafed through beside those of other steps and runs."""

    def log_model(self, model: ModelDescription) -> None:
        """Keep a model as what the run has made."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Write what is buffered and close the run."""
