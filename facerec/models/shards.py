"""Which classes a rank holds, and how the rows of all ranks come together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["Shard", "gather_rows"]

_ROWS_AT_ONCE = 65536


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The part of C classes that one of W ranks holds: C // W of them, and one more on the first C % W ranks.

    Source: arcface_torch ``partial_fc_v2.py``.
    """

    num_classes: int
    rank: int
    world: int

    @classmethod
    def of(cls, num_classes: int, *, group: dist.ProcessGroup | None = None) -> Shard:
        """The part of this process."""
        return cls(num_classes=num_classes, rank=dist.get_rank(group), world=dist.get_world_size(group))

    @property
    def count(self) -> int:
        """Classes in the part."""
        return self.num_classes // self.world + (self.rank < self.num_classes % self.world)

    @property
    def first(self) -> int:
        """The first class of the part."""
        return self.num_classes // self.world * self.rank + min(self.rank, self.num_classes % self.world)

    @property
    def largest_count(self) -> int:
        """Classes in the largest part of all."""
        return -(-self.num_classes // self.world)

    def columns(self, labels_B: Tensor) -> Tensor:
        """The row of each label's class in this part, -1 where another rank has it."""
        columns_B = labels_B - self.first
        return torch.where((columns_B >= 0) & (columns_B < self.count), columns_B, -1)

    def of_rank(self, rank: int) -> Shard:
        """The part of another rank."""
        return Shard(num_classes=self.num_classes, rank=rank, world=self.world)


def gather_rows(own: Tensor, *, shard: Shard, group: dist.ProcessGroup | None = None) -> Tensor | None:
    """The rows of all ranks in the order of the classes, on the CPU of rank 0; None elsewhere.

    It goes in pieces of 65536 rows per rank, so that the device of rank 0 never holds all of them.
    """
    full = torch.empty(shard.num_classes, *own.shape[1:], dtype=own.dtype) if shard.rank == 0 else None
    for start in range(0, shard.largest_count, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, shard.largest_count - start)
        piece = own.new_zeros(rows, *own.shape[1:])
        here = own[start : start + rows]
        piece[: here.shape[0]] = here
        pieces = [torch.empty_like(piece) for _ in range(shard.world)]
        dist.all_gather(pieces, piece, group=group)
        if full is not None:
            _place(full, pieces, shard=shard, start=start)
    return full


def _place(full: Tensor, pieces: list[Tensor], *, shard: Shard, start: int) -> None:
    for rank, piece in enumerate(pieces):
        part = shard.of_rank(rank)
        rows = min(piece.shape[0], part.count - start)
        if rows > 0:
            full[part.first + start : part.first + start + rows] = piece[:rows].cpu()
