"""Verification pair sets (``.bin``), read without ever unpickling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PairSet", "read_pairs", "write_pairs"]


@dataclass(frozen=True, slots=True, eq=False)
class PairSet:
    """Image pairs; pair ``i`` is ``images[2 * i]`` and ``images[2 * i + 1]``, encoded."""

    name: str
    images: tuple[bytes, ...]
    issame: NDArray[np.bool_]
    sha256: str
    path: Path

    @property
    def num_pairs(self) -> int:
        """The number of pairs."""
        return len(self.issame)

    @property
    def num_genuine(self) -> int:
        """The number of genuine pairs."""
        return int(self.issame.sum())


def read_pairs(path: Path | str, *, name: str | None = None) -> PairSet:
    """Read a ``.bin``; PairSetError in one sentence where it is damaged or hostile."""
    raise NotImplementedError


def write_pairs(path: Path | str, images: Sequence[bytes], issame: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Write a ``.bin`` in one step."""
    raise NotImplementedError
