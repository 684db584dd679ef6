"""In which order an epoch shows its pictures: functions of (seed, epoch, place), without any state.

An order knows only of joint batches, those of all processes together, of which each process takes its part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facerec.errors import ConfigError
from facerec.rng import counter_generator, counter_uniform, epoch_permutation

__all__ = [
    "WINDOW_BLOCKS",
    "BalancedOrder",
    "Groups",
    "Order",
    "ShuffledOrder",
    "WeightedOrder",
    "epoch_order",
    "group_by",
]

WINDOW_BLOCKS = 64
"""Blocks that are mixed with each other where ``shuffle_block`` is set."""
_WINDOW_STREAM = 201
_SOURCE_STREAM = 202
_SLOT_STREAM = 203
_IDENTITY_STREAM = 204
_CHOICE_STREAM = 205

Places = NDArray[np.int64]
Take = Callable[[int], Places]
"""``take(number)`` gives the places of the pictures of one joint batch of the epoch, (batch_size,)."""


class Order(Protocol):
    """An order of pictures."""

    @property
    def num_images(self) -> int:
        """Pictures that an epoch shows, those of an incomplete last batch included."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether an epoch may show a picture more than once; each time is then augmented on its own."""
        ...

    def batches(self, epoch: int, *, batch_size: int) -> Take:
        """The batches of an epoch, by number."""
        ...


@dataclass(frozen=True, kw_only=True)
class ShuffledOrder:
    """Every picture once; see `epoch_order`."""

    num_images: int
    seed: int
    shuffle_block: int = 0
    repeats: bool = False

    def batches(self, epoch: int, *, batch_size: int) -> Take:
        """The batches of an epoch, by number."""
        return _slices(
            epoch_order(self.num_images, seed=self.seed, epoch=epoch, shuffle_block=self.shuffle_block), batch_size
        )


@dataclass(frozen=True, kw_only=True)
class WeightedOrder:
    """As many pictures as there are, from each source as many as its weight wants.

    A source is gone through in orders of its own, one after the other and across epochs: no picture is shown again
    before all others of its source have been.
    """

    sizes: tuple[int, ...]
    """Pictures of each source; a source's places follow those of the one before."""
    weights: tuple[float, ...]
    """Share of each source in what is shown; only their ratios count."""
    seed: int
    shuffle_block: int = 0
    repeats: bool = True

    @property
    def num_images(self) -> int:
        """Pictures that an epoch shows."""
        return sum(self.sizes)

    def quotas(self) -> list[int]:
        """Pictures that an epoch shows of each source; rounded so that they add up."""
        exact = np.array(self.weights) / sum(self.weights) * self.num_images
        quotas = np.floor(exact).astype(np.int64)
        largest_rests = np.argsort(quotas - exact, kind="stable")[: self.num_images - int(quotas.sum())]
        quotas[largest_rests] += 1
        return [int(quota) for quota in quotas]

    def batches(self, epoch: int, *, batch_size: int) -> Take:
        """The batches of an epoch, by number."""
        quotas = self.quotas()
        slots = np.repeat(np.arange(len(quotas)), quotas)
        slots = slots[counter_generator(self.seed, epoch, _SLOT_STREAM).permutation(len(slots))]
        order = np.empty(len(slots), dtype=np.int64)
        base = 0
        for source, (size, quota) in enumerate(zip(self.sizes, quotas, strict=True)):
            order[slots == source] = base + self._stretch(source, size, begin=epoch * quota, count=quota)
            base += size
        return _slices(order, batch_size)

    def _stretch(self, source: int, size: int, *, begin: int, count: int) -> Places:
        """A part of the endless sequence of orders of one source."""
        seed = int(counter_generator(self.seed, source, _SOURCE_STREAM).integers(1 << 62))
        first_round, last_round = begin // size, max(begin, begin + count - 1) // size
        rounds = [
            epoch_order(size, seed=seed, epoch=number, shuffle_block=self.shuffle_block)
            for number in range(first_round, last_round + 1)
        ]
        skipped = begin - first_round * size
        return np.concatenate(rounds)[skipped : skipped + count]


class Groups(NamedTuple):
    """The pictures of each identity."""

    places: Places
    """(N,) places in the training set, identity by identity."""
    starts: NDArray[np.int64]
    """(C + 1,) where the places of each identity begin, and where the last ones end; no identity is empty."""


@dataclass(frozen=True, kw_only=True)
class BalancedOrder:
    """Batches of p identities with k pictures each.

    All identities come before one comes again, but for those that do not fill a last batch. The k pictures are drawn
    without repeats where the identity has so many, and otherwise each at least k // n times.
    """

    groups: Groups
    images_per_identity: int
    """k; a batch of k * p pictures has p identities."""
    seed: int
    repeats: bool = True

    @property
    def num_images(self) -> int:
        """Pictures that an epoch shows."""
        return len(self.groups.places)

    @property
    def num_identities(self) -> int:
        """Identities that have a picture."""
        return len(self.groups.starts) - 1

    def batches(self, epoch: int, *, batch_size: int) -> Take:
        """The batches of an epoch, by number.

        Raises:
            ConfigError: there are fewer identities than a batch takes.
        """
        per_batch = batch_size // self.images_per_identity
        per_round = self.num_identities // per_batch
        if per_round == 0:
            raise ConfigError(
                f"data.sampler: a batch takes {per_batch} identities ({batch_size} images, {self.images_per_identity} "
                f"of each), but the training set has {self.num_identities}; lower data.batch_size, or raise "
                "data.sampler.images"
            )
        first = epoch * (self.num_images // batch_size)
        known: dict[int, Places] = {}

        def take(number: int) -> Places:
            round_number, place = divmod(first + number, per_round)
            if round_number not in known:
                known.clear()
                known[round_number] = self._identities(round_number)
            chosen = known[round_number][place * per_batch : (place + 1) * per_batch]
            return self._choose(chosen, round_number)

        return take

    def _identities(self, round_number: int) -> Places:
        generator = counter_generator(self.seed, round_number, _IDENTITY_STREAM)
        return generator.permutation(self.num_identities)

    def _choose(self, identities: Places, round_number: int) -> Places:
        """As many pictures of each identity as a batch has, (p * k,)."""
        starts, count = self.groups.starts[identities], self.images_per_identity
        sizes = self.groups.starts[identities + 1] - starts
        rows = np.repeat(np.arange(len(identities)), sizes)
        begins = np.cumsum(sizes) - sizes
        places = self.groups.places[np.arange(len(rows)) - begins[rows] + starts[rows]]
        ranks = counter_uniform(self.seed, round_number, places, stream=_CHOICE_STREAM)[:, 0]
        shuffled = places[np.lexsort((ranks, rows))]
        picks = begins[:, None] + np.arange(count) % sizes[:, None]
        return shuffled[picks].ravel()


def epoch_order(num_images: int, *, seed: int, epoch: int, shuffle_block: int = 0) -> Places:
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


def group_by(labels: NDArray[np.int64]) -> Groups:
    """The places of each label that occurs."""
    places = np.argsort(labels, kind="stable").astype(np.int64)
    _, firsts = np.unique(labels[places], return_index=True)
    return Groups(places, np.append(firsts, len(labels)).astype(np.int64))


def _slices(order: Places, batch_size: int) -> Take:
    return lambda number: order[number * batch_size : (number + 1) * batch_size]
