"""Where the time of a training goes: into the steps, into waiting for data, or beside both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

__all__ = ["Rates", "Stopwatch"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a window of steps took."""

    images_per_s: float
    data_wait_fraction: float
    """Part of the time in which the loop waited for the loader; in [0, 1]."""
    outside_step_fraction: float
    """Part of the time that the device did not spend in steps: waiting for data, logging, saving; in [0, 1]."""


class Stopwatch:
    """Times the steps of a window.

    On CUDA the steps run behind the loop. There events in the stream of work tell what they took, and they are read
    when the window ends, so no step waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self.restart()

    def restart(self) -> None:
        """Begin a window."""
        self._started_s = time.perf_counter()
        self._waited_s = 0.0
        self._stepped_s = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step."""
        if not self._on_cuda:
            started_s = time.perf_counter()
            yield
            self._stepped_s += time.perf_counter() - started_s
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((begin, end))

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time until each comes counts as waiting."""
        while True:
            asked_s = time.perf_counter()
            batch = next(batches, None)
            self._waited_s += time.perf_counter() - asked_s
            if batch is None:
                return
            yield batch

    def lap(self, images: int) -> Rates:
        """What the window took, with ``images`` pictures; the next one begins here. Waits for the device.

        So whatever the loop does between two steps, telling what a lap took included, is in one window or the other.
        """
        stepped_s = self._stepped_s
        if self._events:
            self._events[-1][1].synchronize()
            stepped_s = sum(begin.elapsed_time(end) for begin, end in self._events) / 1000.0
        elapsed_s = max(1e-9, time.perf_counter() - self._started_s)
        waited_s = self._waited_s
        self.restart()
        return Rates(
            images_per_s=images / elapsed_s,
            data_wait_fraction=min(1.0, waited_s / elapsed_s),
            outside_step_fraction=min(1.0, max(0.0, 1.0 - stepped_s / elapsed_s)),
        )
