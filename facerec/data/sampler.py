"""Which pictures make up which batch: a function of (seed, epoch, rank), without any state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.errors import ConfigError
from facerec.rng import counter_uniform, epoch_permutation

__all__ = ["WINDOW_BLOCKS", "BatchRequest", "BatchSampler", "epoch_order"]

WINDOW_BLOCKS = 64
"""Blocks that are mixed with each other where ``shuffle_block`` is set."""
_WINDOW_STREAM = 201


class BatchRequest(NamedTuple):
    """One batch to fetch."""

    epoch: int
    """Epoch, from 0; the augmentation is drawn from it."""
    indices: NDArray[np.int64]
    """Places of the pictures in the training set, (B,), each in [0, num_images)."""


@dataclass(frozen=True, kw_only=True)
class BatchSampler:
    """Batches of one rank.

    All ranks together take batches of ``batch_size * world_size`` pictures from one order, and rank r has rows
    ``r * batch_size`` to ``(r + 1) * batch_size`` of each, so that several ranks train on what one rank with the
    larger batch would. What is left after the last whole batch is dropped: every rank takes the same number of steps.

    Raises:
        ConfigError: there are fewer pictures than one batch takes.
    """

    num_images: int
    """Pictures in the training set."""
    batch_size: int
    """Pictures in a batch of one rank."""
    seed: int
    """Seed of the order."""
    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""
    shuffle_block: int = 0
    """See `epoch_order`."""

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size, f"rank {self.rank} is outside of a world of {self.world_size}"
        if self.steps_per_epoch == 0:
            total = f"{self.batch_size}" if self.world_size == 1 else f"{self.batch_size} x {self.world_size} processes"
            raise ConfigError(
                f"data.batch_size: the training set has {self.num_images} images, fewer than one batch of {total}; "
                f"lower it to {max(1, self.num_images // self.world_size)} or less"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""
        return self.num_images // (self.batch_size * self.world_size)

    def requests(self, epoch: int, *, start_step: int = 0) -> Iterator[BatchRequest]:
        """Yield the batches of ``epoch`` from ``start_step`` on.

        Raises:
            ValueError: ``start_step`` is outside [0, steps_per_epoch].
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(f"start_step {start_step} is outside of an epoch of {self.steps_per_epoch} steps")
        return self._requests(epoch, start_step)

    def _requests(self, epoch: int, start_step: int) -> Iterator[BatchRequest]:
        order = epoch_order(self.num_images, seed=self.seed, epoch=epoch, shuffle_block=self.shuffle_block)
        for step in range(start_step, self.steps_per_epoch):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield BatchRequest(epoch, order[first : first + self.batch_size].copy())


def epoch_order(num_images: int, *, seed: int, epoch: int, shuffle_block: int = 0) -> NDArray[np.int64]:
    """The order of all pictures in an epoch; int64, (num_images,).

    With ``shuffle_block`` 0 every order is equally likely. Otherwise blocks of that many neighbours are permuted, and
    the pictures of every `WINDOW_BLOCKS` consecutive blocks of that order are mixed with each other. Reads then stay
    within a window of the file, which a disk or a network file system likes; the price is that pictures of one
    identity, which are neighbours in a pack, meet in a batch more often.
    """
    if shuffle_block <= 0:
        return epoch_permutation(seed, epoch, num_images)
    num_blocks = -(-num_images // shuffle_block)
    blocks = epoch_permutation(seed, epoch, num_blocks)
    order = (blocks[:, None] * shuffle_block + np.arange(shuffle_block, dtype=np.int64)).ravel()
    order = order[order < num_images]
    window = shuffle_block * WINDOW_BLOCKS
    for start in range(0, num_images, window):
        part = order[start : start + window]
        keys = counter_uniform(seed, epoch, part, stream=_WINDOW_STREAM)[:, 0]
        order[start : start + window] = part[np.argsort(keys, kind="stable")]
    return order
