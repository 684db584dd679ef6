"""One chunk of classes in the fused loss: what it adds to the softmax, and its gradient. The torch version.

`facerec.models.chunks_triton` has the same two functions as one kernel each, for CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LOWEST", "ChunkRule", "absorb_chunk", "chunk_gradient", "matrix_product"]

LOWEST = -1e30
"""Stands for minus infinity where a difference of two of them must be 0."""


@dataclass(frozen=True, kw_only=True)
class ChunkRule:
    """How the scaled cosines of other classes become logits."""

    limit: float | None
    """Largest absolute logit; None holds nothing back."""
    hard_threshold_B: Tensor | None
    """The logit above which a class is hard for the row; None where the head knows none."""
    hard_t: Tensor | None
    """A scalar: a hard logit l becomes l (t + l / s)."""
    scale: float | Tensor
    """The factor s on the cosines."""
    sub_centres: int
    """Columns of the product for each class; the largest counts."""


def matrix_product(embeddings_BD: Tensor, weight_SD: Tensor, buffer: Tensor) -> Tensor:
    """The products of all rows, written into ``buffer``, which is flat and long enough; (B, S)."""
    shape = (embeddings_BD.shape[0], weight_SD.shape[0])
    return torch.mm(embeddings_BD, weight_SD.t(), out=buffer[: shape[0] * shape[1]].view(shape))


def absorb_chunk(
    product_BS: Tensor,
    inverse_norms_S: Tensor,
    columns_B: Tensor,
    *,
    rule: ChunkRule,
    largest_B: Tensor,
    sums_B: Tensor,
) -> None:
    """Add the chunk to the running softmax over the other classes: its largest logit, and the sum relative to that.

    ``product_BS`` is used up. ``columns_B`` is the row's own class in the chunk, outside [0, classes) where it is not
    here. ``largest_B`` and ``sums_B`` change in place.
    """
    logits_BC, _ = _cosine_logits(product_BS, inverse_norms_S, rule)
    if rule.limit is not None:
        logits_BC.clamp_(-rule.limit, rule.limit)
    if rule.hard_threshold_B is not None:
        logits_BC = _hardened(logits_BC, rule, _is_hard(logits_BC, rule))
    _set_at(logits_BC, columns_B, torch.full_like(largest_B, -torch.inf))
    new_largest_B = torch.maximum(largest_B, logits_BC.amax(dim=1))
    sums_B.mul_((largest_B - new_largest_B).exp_())
    sums_B.add_(logits_BC.sub_(new_largest_B[:, None]).exp_().sum(dim=1))
    largest_B.copy_(new_largest_B)


def chunk_gradient(
    product_BS: Tensor,
    inverse_norms_S: Tensor,
    columns_B: Tensor,
    *,
    rule: ChunkRule,
    lse_B: Tensor,
    gradient_B: Tensor,
    label_gradient_B: Tensor,
) -> Tensor:
    """The gradient of the loss with respect to the product; (B, S), in the place of ``product_BS`` where it can.

    ``gradient_B`` is that of each row's loss; ``label_gradient_B`` is that of the scaled cosine at the label.
    """
    logits_BC, nearest_BC = _cosine_logits(product_BS, inverse_norms_S, rule)
    slope_BC = None
    if rule.limit is not None:
        slope_BC = (logits_BC.abs() <= rule.limit).to(logits_BC.dtype)
        logits_BC.clamp_(-rule.limit, rule.limit)
    if rule.hard_threshold_B is not None:
        assert rule.hard_t is not None
        is_hard_BC = _is_hard(logits_BC, rule)
        hard_slope_BC = torch.where(is_hard_BC, rule.hard_t + 2.0 * logits_BC / rule.scale, 1.0)
        slope_BC = hard_slope_BC if slope_BC is None else hard_slope_BC.mul_(slope_BC)
        logits_BC = _hardened(logits_BC, rule, is_hard_BC)
    gradient_BC = logits_BC.sub_(lse_B[:, None]).exp_().mul_(gradient_B[:, None])
    if slope_BC is not None:
        gradient_BC.mul_(slope_BC)
    _set_at(gradient_BC, columns_B, label_gradient_B)
    if nearest_BC is not None:
        spread_BCK = gradient_BC.new_zeros(*gradient_BC.shape, rule.sub_centres)
        gradient_BC = spread_BCK.scatter_(2, nearest_BC[:, :, None], gradient_BC[:, :, None]).flatten(1)
    return gradient_BC.mul_(inverse_norms_S)


def _cosine_logits(product_BS: Tensor, inverse_norms_S: Tensor, rule: ChunkRule) -> tuple[Tensor, Tensor | None]:
    logits_BS = product_BS.mul_(inverse_norms_S)
    if rule.sub_centres == 1:
        return logits_BS, None
    best = logits_BS.unflatten(1, (-1, rule.sub_centres)).max(dim=2)
    return best.values, best.indices


def _is_hard(logits_BC: Tensor, rule: ChunkRule) -> Tensor:
    assert rule.hard_threshold_B is not None
    return logits_BC > rule.hard_threshold_B[:, None]


def _hardened(logits_BC: Tensor, rule: ChunkRule, is_hard_BC: Tensor) -> Tensor:
    assert rule.hard_t is not None
    return torch.where(is_hard_BC, logits_BC * (rule.hard_t + logits_BC / rule.scale), logits_BC)


def _set_at(matrix_BC: Tensor, columns_B: Tensor, values_B: Tensor) -> None:
    """Set the entry of each row at its column, where that is in the matrix; without asking the device where."""
    classes = matrix_BC.shape[1]
    is_here_B = (columns_B >= 0) & (columns_B < classes)
    columns_B1 = columns_B.clamp(0, classes - 1)[:, None]
    kept_B1 = matrix_BC.gather(1, columns_B1)
    matrix_BC.scatter_(1, columns_B1, torch.where(is_here_B[:, None], values_B[:, None], kept_B1))
