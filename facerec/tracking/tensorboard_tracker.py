"""Curves as TensorBoard events."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facerec.errors import ConfigError
from facerec.training.tracker import ModelDescription, RunDescription, RunStatus

__all__ = ["TensorBoardTracker"]

_log = logging.getLogger(__name__)


class TensorBoardTracker:
    """Writes curves, and the parameters and tags as text, into a folder of the run's name below ``folder``.

    Files are not copied: they are on the disk.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, *, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "logging.tensorboard is true, but tensorboard is not installed; "
                "install the extra 'tensorboard' or set logging.tensorboard=false"
            )
        self._folder = folder
        self._writer: Any = None

    @property
    def run_id(self) -> str | None:
        """None: TensorBoard knows folders, not runs."""
        return None

    def start(self, run: RunDescription) -> None:
        """Open an event file; one of an earlier start in the same folder stays, and TensorBoard joins them.

        Of the earlier one TensorBoard leaves out the steps that the run had done after what it goes on from.
        """
        from torch.utils.tensorboard import SummaryWriter

        place = self._folder / run.folder_name
        first_step = None if run.resume_step is None else run.resume_step + 1
        self._attempt(lambda: setattr(self, "_writer", SummaryWriter(str(place), purge_step=first_step)))
        self._text("run/params", run.params)
        self._text("run/tags", run.tags)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record values of curves."""
        for name, value in metrics.items():
            number = float(value)
            if self._writer is not None and math.isfinite(number):
                self._attempt(lambda name=name, number=number: self._writer.add_scalar(name, number, step))

    def log_file(self, path: Path, *, folder: str = "") -> None:
        """Do nothing: an event file holds no files."""

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        """Record a picture."""
        from PIL import Image

        if self._writer is not None:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._attempt(lambda: self._writer.add_image(key, pixels, step, dataformats="HWC"))

    def log_model(self, model: ModelDescription) -> None:
        """Do nothing: an event file holds no models."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags as text."""
        self._text("run/tags", tags)

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        """Record the status and close the file."""
        self._text("run/status", {"status": status, "reason": reason})
        if self._writer is not None:
            self._attempt(self._writer.close)
            self._writer = None

    def _text(self, name: str, rows: Mapping[str, Any]) -> None:
        if self._writer is not None and rows:
            table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
            self._attempt(lambda: self._writer.add_text(name, f"| key | value |\n|---|---|\n{table}"))

    def _attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            _log.warning("TensorBoard events are no longer written to %s: %s", self._folder, error)
            self._writer = None
