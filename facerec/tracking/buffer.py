"""What the training has handed over and nobody has looked at yet."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from facerec.tracking.names import clean_name

__all__ = ["MAX_POINTS_PER_CALL", "Buffer", "Point"]

MAX_POINTS_PER_CALL = 1000

Point = tuple[str, float, int, int]
"""Name, value, step, and the time in milliseconds since 1970."""


class Buffer:
    """Points of curves and other events, in the order in which they came.

    One thread adds and another takes; adding costs microseconds and never waits.
    """

    def __init__(self) -> None:
        # append and popleft of a deque are atomic, so no lock can hold up the training.
        self._items: deque[Point | tuple[str, dict[str, Any]]] = deque()
        self._clean_names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Add one point for each value that is finite."""
        now_ms = time.time_ns() // 1_000_000
        for name, value in metrics.items():
            number = float(value)
            if math.isfinite(number):
                clean = self._clean_names.get(name)
                if clean is None:
                    clean = self._clean_names[name] = clean_name(name)
                self._items.append((clean, number, int(step), now_ms))

    def add_event(self, kind: str, body: dict[str, Any]) -> None:
        """Add anything else."""
        self._items.append((kind, body))

    def take(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Remove everything; neighbouring points come as one ``metrics`` event of at most a thousand."""
        points: list[Point] = []
        for _ in range(len(self._items)):
            item = self._items.popleft()
            if len(item) == 2:
                if points:
                    yield "metrics", {"points": points}
                    points = []
                yield item
                continue
            points.append(item)
            if len(points) == MAX_POINTS_PER_CALL:
                yield "metrics", {"points": points}
                points = []
        if points:
            yield "metrics", {"points": points}
