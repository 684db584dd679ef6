"""Which pictures make up which batch of which process: a function of (order, epoch, rank), without any state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.data.orders import Order
from facerec.errors import ConfigError

__all__ = ["BatchRequest", "BatchSampler"]


class BatchRequest(NamedTuple):
    """One batch to fetch."""

    epoch: int
    """Epoch, from 0; the augmentation is drawn from it."""
    indices: NDArray[np.int64]
    """Places of the pictures in the training set, (B,), each in [0, num_images)."""
    counters: NDArray[np.int64] | None = None
    """(B,) numbers that the augmentation is drawn from, the indices where there are none."""


@dataclass(frozen=True, kw_only=True)
class BatchSampler:
    """Batches of one rank.

    All ranks together take batches of ``batch_size * world_size`` pictures from one order, and rank r has rows
    ``r * batch_size`` to ``(r + 1) * batch_size`` of each, so that several ranks train on what one rank with the
    larger batch would. What is left after the last whole batch is dropped: every rank takes the same number of steps.

    Raises:
        ConfigError: there are fewer pictures than one batch takes.
    """

    order: Order
    """The order of the pictures."""
    batch_size: int
    """Pictures in a batch of one rank."""
    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size, f"rank {self.rank} is outside of a world of {self.world_size}"
        if self.steps_per_epoch == 0:
            total = f"{self.batch_size}" if self.world_size == 1 else f"{self.batch_size} x {self.world_size} processes"
            num_images = self.order.num_images
            raise ConfigError(
                f"data.batch_size: the training set has {num_images} images, fewer than one batch of {total}; "
                f"lower it to {max(1, num_images // self.world_size)} or less"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""
        return self.order.num_images // (self.batch_size * self.world_size)

    @property
    def most_unseen_images(self) -> int:
        """Pictures that an epoch may leave out."""
        used = self.steps_per_epoch * self.batch_size * self.world_size
        return self.order.num_images - (0 if self.order.repeats else used)

    def requests(self, epoch: int, *, start_step: int = 0) -> Iterator[BatchRequest]:
        """Yield the batches of ``epoch`` from ``start_step`` on.

        Raises:
            ValueError: ``start_step`` is outside [0, steps_per_epoch].
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(f"start_step {start_step} is outside of an epoch of {self.steps_per_epoch} steps")
        return self._requests(epoch, start_step)

    def _requests(self, epoch: int, start_step: int) -> Iterator[BatchRequest]:
        joint_size = self.batch_size * self.world_size
        take = self.order.batches(epoch, batch_size=joint_size)
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        for step in range(start_step, self.steps_per_epoch):
            # A picture that comes twice in an epoch is changed by its place in the order, not in the training set.
            counters = step * joint_size + np.arange(own.start, own.stop) if self.order.repeats else None
            yield BatchRequest(epoch, take(step)[own].copy(), counters)
