"""What a person sees of an epoch: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Self

from facerec.training.means import Window

__all__ = ["Progress"]

LOGGER = logging.getLogger("facerec")


class Progress:
    """Progress of one epoch."""

    def __init__(
        self, *, epoch: int, epochs: int, steps: int, done: int, images_per_step: int, is_shown: bool = True
    ) -> None:
        self._label = f"epoch {epoch + 1}/{epochs}"
        self._steps = steps
        self._step = done
        self._images_per_step = images_per_step
        self._bar = None
        if is_shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
            told = TextColumn("{task.fields[told]}")
            self._bar = Bar(*columns, TimeRemainingColumn(), told, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._label, total=steps, completed=done, told="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One step is done."""
        self._step += 1
        if self._bar is not None:
            self._bar.advance(self._task)

    def tell(self, window: Window, *, lr: float, images_per_s: float) -> None:
        """Show loss, accuracy, speed and the time left in the epoch."""
        text = f"loss {window.loss:.4f}  accuracy {window.accuracy:.4f}  lr {lr:.3g}  {images_per_s:.0f} images/s"
        left_s = (self._steps - self._step) * self._images_per_step / max(1e-9, images_per_s)
        if self._bar is not None:
            self._bar.update(self._task, told=text)
        else:
            minutes, seconds = divmod(round(left_s), 60)
            LOGGER.info("%s  step %d/%d  %s  ETA %d:%02d", self._label, self._step, self._steps, text, minutes, seconds)
