"""SIGTERM and SIGINT as a request to stop after the running step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from facerec.errors import FacerecError

__all__ = ["Interrupt", "TrainingInterrupted", "TrainingStopped"]


class TrainingInterrupted(FacerecError):  # noqa: N818 - a stop on request is no error of the work
    """A signal stopped the training after a checkpoint was saved; the exit code is 128 + the signal's number."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class TrainingStopped(FacerecError):  # noqa: N818 - no error either
    """Whoever watches the evaluations has seen enough; the run counts as killed."""


class Interrupt:
    """While the block runs, the first SIGTERM or SIGINT is remembered; a second SIGINT stops at once.

    Outside the main thread, where Python allows no handlers, nothing is caught.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._remember)
            for handler in self._previous.values():
                outer = getattr(handler, "__self__", None)
                if isinstance(outer, Interrupt) and outer.requested:
                    # The signal came while the work inside was being made ready.
                    self.signal_number = outer.signal_number
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
            outer = getattr(handler, "__self__", None)
            if number == self.signal_number and isinstance(outer, Interrupt):
                # A training that ended before it could heed the signal must not hide it from whoever runs many.
                outer.signal_number = number

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
