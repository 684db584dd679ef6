"""How a batch and the classes of a head lie on the processes of a training, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["ALONE", "Spread", "joint_batch"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What one process holds of the joint batch and of the classes.

    Neither: one process has everything. ``rows``: every rank has its own part of the batch and all classes.
    ``classes``: every rank has the joint batch and its own part of the classes.
    """

    rows: bool = False
    classes: bool = False
    group: dist.ProcessGroup | None = None

    def sum_rows(self, tensor: Tensor) -> Tensor:
        """Sum over the parts of the batch; in place."""
        return self._reduced(tensor, dist.ReduceOp.SUM) if self.rows else tensor

    def sum_classes(self, tensor: Tensor) -> Tensor:
        """Sum over the parts of the classes; in place."""
        return self._reduced(tensor, dist.ReduceOp.SUM) if self.classes else tensor

    def max_classes(self, tensor: Tensor) -> Tensor:
        """Largest over the parts of the classes; in place."""
        return self._reduced(tensor, dist.ReduceOp.MAX) if self.classes else tensor

    def gather_rows(self, tensor_B: Tensor) -> Tensor:
        """The joint batch in the order of the ranks, whose parts must be of one size."""
        if not self.rows:
            return tensor_B
        parts = [torch.empty_like(tensor_B) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, tensor_B.contiguous(), group=self.group)
        return torch.cat(parts)

    def first_row(self, count: int) -> int:
        """The place in the joint batch of this process's first of ``count`` rows."""
        return dist.get_rank(self.group) * count if self.rows else 0

    def own_rows(self, joint_B: Tensor, count: int) -> Tensor:
        """This process's ``count`` rows of a joint batch."""
        first = self.first_row(count)
        return joint_B[first : first + count]

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        dist.all_reduce(tensor, operation, group=self.group)
        return tensor


ALONE = Spread()


def joint_batch() -> Spread:
    """The spread of a head that every rank holds whole: the batch is split over the ranks, where there are several."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return Spread(rows=True) if several else ALONE
