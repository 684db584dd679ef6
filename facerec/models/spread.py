"""How the classes of a head lie on the processes of a training, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch import distributed as dist

__all__ = ["ALONE", "Spread"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What one process holds of the classes: all, or with ``classes`` its own part; of the joint batch it has all."""

    classes: bool = False
    group: dist.ProcessGroup | None = None

    def sum_classes(self, tensor: Tensor) -> Tensor:
        """Sum over the parts of the classes; in place."""
        return self._reduced(tensor, dist.ReduceOp.SUM) if self.classes else tensor

    def max_classes(self, tensor: Tensor) -> Tensor:
        """Largest over the parts of the classes; in place."""
        return self._reduced(tensor, dist.ReduceOp.MAX) if self.classes else tensor

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        dist.all_reduce(tensor, operation, group=self.group)
        return tensor


ALONE = Spread()
