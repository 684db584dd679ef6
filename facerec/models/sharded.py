"""A margin head whose classes are split over the ranks of a training: model-parallel PartialFC.

Every rank gathers the embeddings of the joint batch, computes the logits of its own classes, and the ranks exchange
one largest logit and two sums per embedding. The loss is that of one process with the joint batch and all classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from facerec.errors import ConfigError, ModelError
from facerec.models.classification import LossOutput, LossSettings, chosen_classes, row_losses
from facerec.models.fused import RowLosses
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import at_labels, check_labels
from facerec.models.precision import full_precision, full_precision_dtype
from facerec.models.shards import Shard, gather_rows
from facerec.models.spread import Spread

__all__ = ["ShardedClassificationLoss"]


class ShardedClassificationLoss(nn.Module):
    """`ClassificationLoss` over ranks that each hold a part of the classes.

    Built on every rank from the same whole head, of which it keeps this rank's classes: rank r of W holds
    C // W + (r < C % W) of them, in order. ``shard`` says which. The head's other state (AdaFace's statistics,
    CurricularFace's t, AdaCos's scale, ElasticFace's draws) is the same on every rank and that of the joint batch.

    The loss is the mean over the joint batch, the same on every rank; ``is_correct_B`` is for the rank's own part.
    The gradient of the class centres is complete as it is: leave this module out of DDP. The gradient of the
    embeddings is multiplied by W where ``for_ddp``, because DDP then averages the backbone's gradient over the ranks.

    A checkpoint is to hold the whole head, whatever the number of ranks: `head_state` gathers it, and `gather_full` and
    `own_part` put together and take apart a tensor with one row per class, such as the weight or its momentum.

    Shape: embeddings (B, D), any floating dtype, the same B on every rank; labels (B,), int64 in [0, C).

    Raises:
        ConfigError: there are more ranks than classes.
        ModelError: the ranks have batches of different sizes; a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        head: CosineHead,
        settings: LossSettings | None = None,
        *,
        group: dist.ProcessGroup | None = None,
        for_ddp: bool = True,
    ) -> None:
        super().__init__()
        self.settings = settings or LossSettings()
        self.group = group
        self.shard = Shard.of(head.num_classes, group=group)
        if head.num_classes < self.shard.world:
            raise ConfigError(
                f"head.num_classes: {head.num_classes} classes cannot be split over {self.shard.world} processes; "
                "start fewer"
            )
        self.head = head
        head.weight = nn.Parameter(self.own_part(head.weight.detach()).clone())
        self._embedding_factor = float(self.shard.world) if for_ddp else 1.0
        self._spread = Spread(classes=True, group=group)
        self._known_batches: set[int] = set()

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor, *, step: int = 0) -> LossOutput:
        """The loss of the joint batch; ``step`` is the number of the update, the same on every rank."""
        head, settings = self.head, self.settings
        check_labels(labels_B, num_classes=head.num_classes)
        self._check_batch(labels_B)
        with full_precision(embeddings_BD):
            own_BD = embeddings_BD.to(full_precision_dtype(head.weight))
            embeddings_JD: Tensor = _Gather.apply(own_BD, self._embedding_factor, self.group)
            norms_J = embeddings_JD.norm(dim=1)
            columns_J = self.shard.columns(_gathered(labels_B, self.group))
            weight, columns_J = chosen_classes(
                head,
                columns_J,
                settings=settings,
                step=step,
                training=self.training,
                first_class=self.shard.first,
            )
            rows = row_losses(
                head,
                weight,
                embeddings_JD,
                columns_J,
                norms_B=norms_J,
                spread=self._spread,
                settings=settings,
                cross_entropy=self._cross_entropy,
            )
            loss = rows.loss_B.mean()
            if (regulariser := head.regulariser(norms_J)) is not None:
                loss = loss + _once(regulariser, self.shard.world)
        first = self.shard.rank * labels_B.shape[0]
        return LossOutput(loss=loss, is_correct_B=rows.is_correct_B[first : first + labels_B.shape[0]])

    def _cross_entropy(self, logits_JC: Tensor, columns_J: Tensor) -> RowLosses:
        loss_J, is_correct_J = _SplitCrossEntropy.apply(logits_JC, columns_J, self._spread)
        return RowLosses(loss_B=loss_J, is_correct_B=is_correct_J)

    def gather_full(self, own: Tensor) -> Tensor | None:
        """The rows of all ranks, on the CPU of rank 0; None elsewhere. Call it on every rank."""
        return gather_rows(own.detach(), shard=self.shard, group=self.group)

    def own_part(self, full: Tensor) -> Tensor:
        """This rank's rows of a tensor with one row per class; a view."""
        return full[self.shard.first : self.shard.first + self.shard.count]

    def head_state(self) -> dict[str, Tensor] | None:
        """The state dict of the whole head, as one process would have it; on rank 0, None elsewhere."""
        weight = self.gather_full(self.head.weight)
        if weight is None:
            return None
        return {name: weight if name == "weight" else value for name, value in self.head.state_dict().items()}

    def _check_batch(self, labels_B: Tensor) -> None:
        """Ask the other ranks about every size that is new here, which it is on all of them at once."""
        batch = labels_B.shape[0]
        if batch in self._known_batches:
            return
        sizes = _gathered(torch.tensor([batch], device=labels_B.device), self.group)
        if (sizes != batch).any():
            raise ModelError(f"the processes have batches of different sizes: {sizes.tolist()}; drop the last one")
        self._known_batches.add(batch)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        shard = self.shard
        return (
            f"classes {shard.first} to {shard.first + shard.count - 1} of {shard.num_classes}, "
            f"fused={self.settings.fused}, sample_rate={self.settings.sample_rate}"
        )


class _Gather(torch.autograd.Function):
    """The rows of all ranks; backward sums what all ranks ask of the own rows, and multiplies it by ``factor``."""

    @staticmethod
    def forward(ctx: Any, own_BD: Tensor, factor: float, group: dist.ProcessGroup | None) -> Tensor:
        ctx.factor, ctx.group, ctx.count = factor, group, own_BD.shape[0]
        return _gathered(own_BD, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:  # pyrefly: ignore[bad-override]
        gradient_JD: Tensor = grad_outputs[0].contiguous()
        dist.all_reduce(gradient_JD, group=ctx.group)
        first = dist.get_rank(ctx.group) * ctx.count
        return gradient_JD[first : first + ctx.count] * ctx.factor, None, None


class _SplitCrossEntropy(torch.autograd.Function):
    """Cross-entropy of logits whose columns are split over the ranks; the loss is the same on all of them."""

    @staticmethod
    def forward(ctx: Any, logits_JC: Tensor, columns_J: Tensor, spread: Spread) -> tuple[Tensor, Tensor]:
        is_here_J, safe_J = columns_J >= 0, columns_J.clamp_min(0)
        target_J = spread.sum_classes(torch.where(is_here_J, at_labels(logits_JC, safe_J), 0.0))
        largest_J = spread.max_classes(logits_JC.amax(dim=1))
        softmax_JC = (logits_JC - largest_J[:, None]).exp_()
        sums_J = spread.sum_classes(softmax_JC.sum(dim=1))
        softmax_JC.div_(sums_J[:, None])
        is_correct_J = target_J >= largest_J
        ctx.save_for_backward(softmax_JC, is_here_J, safe_J)
        ctx.mark_non_differentiable(is_correct_J)
        return largest_J + sums_J.log() - target_J, is_correct_J

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:  # pyrefly: ignore[bad-override]
        gradient_J: Tensor = grad_outputs[0]
        softmax_JC, is_here_J, safe_J = ctx.saved_tensors
        gradient_JC = softmax_JC * gradient_J[:, None]
        rows_J = torch.arange(safe_J.shape[0], device=safe_J.device)
        own_J = torch.where(is_here_J, gradient_J, 0.0)
        return gradient_JC.index_put_((rows_J, safe_J), -own_J, accumulate=True), None, None


def _once(value: Tensor, ranks: int) -> Tensor:
    """``value``, with a gradient that sums to its own over ranks that all compute it."""
    return value.detach() + (value - value.detach()) / ranks


def _gathered(own_B: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    parts = [torch.empty_like(own_B) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own_B.contiguous(), group=group)
    return torch.cat(parts)
