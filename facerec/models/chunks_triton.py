"""One chunk of classes in the fused loss, as one Triton kernel each way: `facerec.models.chunks` in a single pass.

The torch version reads and writes the chunk about ten times; here the forward pass reads it once and the backward pass
reads and writes it once. Each row is one program, without atomic operations, so the results repeat to the bit.
Import this module where Triton is installed only. It knows classes of one centre, in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from facerec.models.chunks import ChunkRule

__all__ = ["absorb_chunk", "chunk_gradient"]

_BLOCK = 1024


@triton.jit
def _to_logits(
    products: Any,
    inverse_norms: Any,
    limit: Any,
    threshold: Any,
    t: Any,
    inverse_scale: Any,
    limited: tl.constexpr,
    hardens: tl.constexpr,
) -> Any:
    """The logits of other classes, and their derivative with respect to the scaled cosines."""
    cosines = products * inverse_norms
    slopes = tl.full(cosines.shape, 1.0, tl.float32)
    logits = cosines
    if limited:
        slopes = tl.where(tl.abs(cosines) <= limit, 1.0, 0.0)
        logits = tl.minimum(tl.maximum(cosines, -limit), limit)
    if hardens:
        is_hard = logits > threshold
        slopes = slopes * tl.where(is_hard, t + 2.0 * logits * inverse_scale, 1.0)
        logits = tl.where(is_hard, logits * (t + logits * inverse_scale), logits)
    return logits, slopes


@triton.jit
def _absorb(
    products: Any,
    inverse_norms: Any,
    columns: Any,
    largest: Any,
    sums: Any,
    thresholds: Any,
    hard: Any,
    limit: Any,
    classes: Any,
    limited: tl.constexpr,
    hardens: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.load(columns + row)
    running_largest = tl.load(largest + row)
    running_sum = tl.load(sums + row)
    threshold, t, inverse_scale = 0.0, 0.0, 0.0
    if hardens:
        threshold, t, inverse_scale = tl.load(thresholds + row), tl.load(hard), tl.load(hard + 1)
    for start in range(0, classes, block):
        places = start + tl.arange(0, block)
        inside = places < classes
        products_here = tl.load(products + row * classes + places, mask=inside, other=0.0)
        inverse_here = tl.load(inverse_norms + places, mask=inside, other=0.0)
        logits, _ = _to_logits(products_here, inverse_here, limit, threshold, t, inverse_scale, limited, hardens)
        logits = tl.where(inside & (places != column), logits, float("-inf"))
        new_largest = tl.maximum(running_largest, tl.max(logits, axis=0))
        running_sum = running_sum * tl.exp(running_largest - new_largest) + tl.sum(tl.exp(logits - new_largest), axis=0)
        running_largest = new_largest
    tl.store(largest + row, running_largest)
    tl.store(sums + row, running_sum)


@triton.jit
def _to_gradient(
    products: Any,
    inverse_norms: Any,
    columns: Any,
    lse: Any,
    gradients: Any,
    label_gradients: Any,
    thresholds: Any,
    hard: Any,
    limit: Any,
    classes: Any,
    limited: tl.constexpr,
    hardens: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * block + tl.arange(0, block)
    inside = places < classes
    threshold, t, inverse_scale = 0.0, 0.0, 0.0
    if hardens:
        threshold, t, inverse_scale = tl.load(thresholds + row), tl.load(hard), tl.load(hard + 1)
    target = products + row * classes + places
    inverse_here = tl.load(inverse_norms + places, mask=inside, other=0.0)
    logits, slopes = _to_logits(
        tl.load(target, mask=inside, other=0.0),
        inverse_here,
        limit,
        threshold,
        t,
        inverse_scale,
        limited,
        hardens,
    )
    result = tl.exp(logits - tl.load(lse + row)) * tl.load(gradients + row) * slopes
    result = tl.where(places == tl.load(columns + row), tl.load(label_gradients + row), result)
    tl.store(target, result * inverse_here, mask=inside)


def absorb_chunk(
    product_BS: Tensor,
    inverse_norms_S: Tensor,
    columns_B: Tensor,
    *,
    rule: ChunkRule,
    largest_B: Tensor,
    sums_B: Tensor,
) -> None:
    """See `facerec.models.chunks.absorb_chunk`; ``product_BS`` stays as it is."""
    thresholds_B, hard_2 = _hard_tensors(rule, product_BS)
    launch: Any = _absorb[(product_BS.shape[0],)]
    launch(
        product_BS,
        inverse_norms_S,
        columns_B,
        largest_B,
        sums_B,
        thresholds_B,
        hard_2,
        rule.limit or 0.0,
        product_BS.shape[1],
        limited=rule.limit is not None,
        hardens=rule.hard_threshold_B is not None,
        block=_BLOCK,
    )


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
    """See `facerec.models.chunks.chunk_gradient`; the result is in the place of ``product_BS``."""
    thresholds_B, hard_2 = _hard_tensors(rule, product_BS)
    rows, classes = product_BS.shape
    launch: Any = _to_gradient[(rows, triton.cdiv(classes, _BLOCK))]
    launch(
        product_BS,
        inverse_norms_S,
        columns_B,
        lse_B,
        gradient_B.contiguous(),
        label_gradient_B,
        thresholds_B,
        hard_2,
        rule.limit or 0.0,
        classes,
        limited=rule.limit is not None,
        hardens=rule.hard_threshold_B is not None,
        block=_BLOCK,
    )
    return product_BS


def _hard_tensors(rule: ChunkRule, like: Tensor) -> tuple[Tensor, Tensor]:
    """The thresholds, and t with 1 / s; any tensors where there are none, for the kernel does not read them."""
    if rule.hard_threshold_B is None:
        return like, like
    assert rule.hard_t is not None
    hard_t = rule.hard_t.to(like.dtype)
    return rule.hard_threshold_B, torch.stack([hard_t, torch.ones_like(hard_t) / rule.scale])
