"""The lines of a training: on standard error from its first moment on, and in the run's log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RunLog", "run_log"]

LOGGER = logging.getLogger("facerec")


class RunLog(logging.Handler):
    """Keeps the lines until the run has a folder, then writes them and all later ones to its file."""

    def __init__(self) -> None:
        super().__init__()
        self._early: list[logging.LogRecord] = []
        self._file: logging.FileHandler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write or keep one line."""
        if self._file is None:
            self._early.append(record)
        else:
            self._file.emit(record)

    def write_to(self, path: Path) -> None:
        """Begin the file, or go on with it, with what has been said so far."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = logging.FileHandler(path, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        for record in self._early:
            self._file.emit(record)
        self._early.clear()

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
        super().close()


@contextmanager
def run_log(*, rank: int) -> Iterator[RunLog]:
    """Tell the lines of the logger ``facerec`` while the block runs: all of the first process, warnings of others."""
    log = RunLog()
    handlers = [_terminal_handler(), log] if rank == 0 else [_warning_handler(rank)]
    previous = LOGGER.level
    LOGGER.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    for handler in handlers:
        LOGGER.addHandler(handler)
    try:
        yield log
    finally:
        LOGGER.setLevel(previous)
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()


def _warning_handler(rank: int) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"[process {rank}] %(message)s"))
    return handler


def _terminal_handler() -> logging.Handler:
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        return RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    return handler
