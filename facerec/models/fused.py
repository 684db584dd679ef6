"""Margin cross-entropy that never holds the logits of a batch.

The forward pass goes over the classes in chunks and keeps, for each row, the largest logit and the sum of exponentials
relative to it; the backward pass computes each chunk again and turns it into its gradient. The margin touches one
entry per row, which is known beforehand, so the chunks hold the other classes only. Memory: one chunk, besides the
weight and its gradient. Work: four matrix products where the plain loss has three.

Source: the running softmax of Milakov and Gimelshein 2018, arXiv:1805.02867.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from facerec.models import chunks
from facerec.models.chunks import LOWEST, ChunkRule, matrix_product
from facerec.models.heads.base import CosineHead, Observation
from facerec.models.precision import full_precision
from facerec.models.spread import Spread

__all__ = ["DEFAULT_CHUNK_MIB", "RowLosses", "classes_in_chunk", "fused_rows"]

DEFAULT_CHUNK_MIB = 256
_SMALLEST_NORM = 1e-12


class RowLosses(NamedTuple):
    """The cross-entropy of each embedding."""

    loss_B: Tensor
    is_correct_B: Tensor
    """Whether no other class has a larger logit; bool."""


def fused_rows(
    head: CosineHead,
    weight: Tensor,
    embeddings_BD: Tensor,
    columns_B: Tensor,
    *,
    norms_B: Tensor,
    spread: Spread,
    chunk_mib: int = DEFAULT_CHUNK_MIB,
) -> RowLosses:
    """The loss of each embedding over the classes of ``weight``, and of the other ranks where they hold more.

    Call it where autocast is off, with embeddings in the dtype to compute in. ``columns_B`` is the row of ``weight``
    that holds the class of each embedding, -1 where it is not among them.
    Shape: weight (C, D) or (C, K, D); embeddings (B, D); columns (B,), int64.
    """
    directions_BD = F.normalize(embeddings_BD)
    is_here_B = columns_B >= 0
    with torch.no_grad():
        inverse_norms = _inverse_norms(weight, dtype=directions_BD.dtype)
        own_cos_B = _label_cosines(directions_BD, weight, inverse_norms, columns_B.clamp_min(0))
        cos_B = spread.sum_classes(torch.where(is_here_B, own_cos_B, 0.0))
    sweep = _Sweep(weight, inverse_norms, columns_B, spread=spread, chunk_mib=chunk_mib)
    scale = head.current_scale()
    seen_B = head.observe(
        Observation(
            cos_B=cos_B.clamp(-head.cos_limit, head.cos_limit) if head.cos_limit < 1.0 else cos_B,
            norms_B=norms_B.detach(),
            others_lse_B=lambda: sweep.others_lse(directions_BD.detach() * scale, _rule_of(head, weight, cos_B, scale)),
        )
    )
    scale = head.current_scale()
    target_B, slope_B = _target(head, cos_B, norms_B=norms_B, seen_B=seen_B)
    rule = _rule_of(head, weight, cos_B, scale)
    loss_B, is_correct_B = _FusedCrossEntropy.apply(
        directions_BD * scale, weight, scale * target_B, slope_B, _Call(sweep=sweep, rule=rule)
    )
    return RowLosses(loss_B=loss_B, is_correct_B=is_correct_B)


def classes_in_chunk(*, chunk_mib: int, batch: int, embedding_size: int, sub_centres: int, element_bytes: int) -> int:
    """How many classes a chunk of ``chunk_mib`` MiB holds: its logits and two of its rows of the weight; at least 128.

    A multiple of 128 where it is more, for the sake of the matrix product.
    """
    bytes_per_class = sub_centres * element_bytes * (batch + 2 * embedding_size)
    return max(128, chunk_mib * 2**20 // bytes_per_class // 128 * 128)


class _Sweep:
    """Passes over the classes in chunks."""

    def __init__(
        self, weight: Tensor, inverse_norms: Tensor, columns_B: Tensor, *, spread: Spread, chunk_mib: int
    ) -> None:
        self.weight_SD = weight.detach().flatten(0, -2)
        self.inverse_norms_S = inverse_norms.flatten()
        self.sub_centres = 1 if weight.dim() == 2 else weight.shape[1]
        self.columns_B = columns_B
        self.spread = spread
        self.classes = weight.shape[0]
        self.step = min(
            self.classes,
            classes_in_chunk(
                chunk_mib=chunk_mib,
                batch=columns_B.shape[0],
                embedding_size=weight.shape[-1],
                sub_centres=self.sub_centres,
                element_bytes=inverse_norms.element_size(),
            ),
        )

    def chunks(self, scaled_BD: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """For each chunk: its centres, their vectors, the products with all rows, and the rows' columns in it."""
        width = self.step * self.sub_centres
        buffer = scaled_BD.new_empty(scaled_BD.shape[0] * width)
        for first in range(0, self.classes, self.step):
            stop = min(first + self.step, self.classes)
            part = slice(first * self.sub_centres, stop * self.sub_centres)
            vectors_SD = self.weight_SD[part].to(scaled_BD.dtype)
            # A class elsewhere has -1 or less here, and one of a later chunk a column past the end.
            columns_B = torch.where(self.columns_B < 0, -1, self.columns_B - first)
            yield part, vectors_SD, matrix_product(scaled_BD, vectors_SD, buffer), columns_B

    @torch.no_grad()
    def others(self, scaled_BD: Tensor, rule: ChunkRule) -> tuple[Tensor, Tensor]:
        """The largest logit of all other classes, on all ranks, and the log of the sum of their exponentials; (B,)."""
        largest_B = scaled_BD.new_full((scaled_BD.shape[0],), LOWEST)
        sums_B = torch.zeros_like(largest_B)
        absorb = _kernels(scaled_BD, rule).absorb_chunk
        for part, _, product_BS, columns_B in self.chunks(scaled_BD):
            absorb(product_BS, self.inverse_norms_S[part], columns_B, rule=rule, largest_B=largest_B, sums_B=sums_B)
        joint_largest_B = self.spread.max_classes(largest_B.clone())
        sums_B = self.spread.sum_classes(sums_B * (largest_B - joint_largest_B).exp())
        return joint_largest_B, joint_largest_B + sums_B.log()

    def others_lse(self, scaled_BD: Tensor, rule: ChunkRule) -> Tensor:
        """The log of the sum, over all other classes, of exp(logit); (B,)."""
        return self.others(scaled_BD, rule)[1]

    @torch.no_grad()
    def gradients(
        self, scaled_BD: Tensor, rule: ChunkRule, *, like: Tensor, for_directions: bool, **rows: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of the scaled directions, where they are asked for, and of the weight, shaped ``like`` it."""
        gradient_BD = torch.zeros_like(scaled_BD) if for_directions else None
        weight_gradient = torch.empty_like(like)
        weight_gradient_SD = weight_gradient.view(-1, like.shape[-1])
        to_gradient = _kernels(scaled_BD, rule).chunk_gradient
        for part, vectors_SD, product_BS, columns_B in self.chunks(scaled_BD):
            inverse_norms_S = self.inverse_norms_S[part]
            logit_gradient_BS = to_gradient(product_BS, inverse_norms_S, columns_B, rule=rule, **rows)
            if gradient_BD is not None:
                gradient_BD.addmm_(logit_gradient_BS, vectors_SD)
            vector_gradient_SD = logit_gradient_BS.t() @ scaled_BD
            # What lies along the vector itself is lost in its normalisation.
            along_S = torch.linalg.vecdot(vector_gradient_SD, vectors_SD) * inverse_norms_S.square()
            torch.addcmul(vector_gradient_SD, along_S[:, None], vectors_SD, value=-1.0, out=vector_gradient_SD)
            weight_gradient_SD[part] = vector_gradient_SD
        return gradient_BD, weight_gradient


class _Call(NamedTuple):
    """What one call of the function needs beside tensors with a gradient."""

    sweep: _Sweep
    rule: ChunkRule


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scaled_BD: Tensor, weight: Tensor, target_logit_B: Tensor, slope_B: Tensor, call: _Call
    ) -> tuple[Tensor, Tensor]:
        largest_B, others_lse_B = call.sweep.others(scaled_BD, call.rule)
        lse_B = torch.logaddexp(others_lse_B, target_logit_B)
        is_correct_B = target_logit_B >= largest_B
        ctx.save_for_backward(scaled_BD, weight, target_logit_B, slope_B, lse_B)
        ctx.call = call
        ctx.mark_non_differentiable(is_correct_B)
        return lse_B - target_logit_B, is_correct_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        gradient_B: Tensor = grad_outputs[0]
        scaled_BD, weight, target_logit_B, slope_B, lse_B = ctx.saved_tensors
        call: _Call = ctx.call
        with full_precision(scaled_BD):
            target_gradient_B = gradient_B * ((target_logit_B - lse_B).exp() - 1.0)
            scaled_gradient_BD, weight_gradient = call.sweep.gradients(
                scaled_BD,
                call.rule,
                like=weight,
                for_directions=ctx.needs_input_grad[0],
                lse_B=lse_B,
                gradient_B=gradient_B,
                label_gradient_B=target_gradient_B * slope_B,
            )
        # On several ranks every one knows every target; the gradient is that of the rank with the class, once.
        own_target_gradient_B = torch.where(call.sweep.columns_B >= 0, target_gradient_B, 0.0)
        return scaled_gradient_BD, weight_gradient, own_target_gradient_B, None, None


def _target(head: CosineHead, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """The cosine at the label with its margin, and its derivative with respect to the cosine without.

    The first carries the gradient of the norms alone.
    """
    with_gradient = torch.is_grad_enabled()
    leaf_B = cos_B.detach().requires_grad_(with_gradient)
    held_B = leaf_B.clamp(-head.cos_limit, head.cos_limit) if head.cos_limit < 1.0 else leaf_B
    target_B = held_B + head.label_change(held_B, norms_B=norms_B, seen_B=seen_B)
    if not with_gradient:
        return target_B, torch.ones_like(target_B)
    (slope_B,) = torch.autograd.grad(target_B.sum(), leaf_B, retain_graph=True)
    return target_B, slope_B


def _rule_of(head: CosineHead, weight: Tensor, cos_B: Tensor, scale: float | Tensor) -> ChunkRule:
    hard = head.hard_rule(cos_B)
    return ChunkRule(
        limit=head.scale * head.cos_limit if head.cos_limit < 1.0 else None,
        hard_threshold_B=None if hard is None else scale * hard.threshold_B,
        hard_t=None if hard is None else hard.t,
        scale=scale,
        sub_centres=1 if weight.dim() == 2 else weight.shape[1],
    )


def _inverse_norms(weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    """One over the norm of every centre; (C,) or (C, K)."""
    return torch.linalg.vector_norm(weight, dim=-1, dtype=dtype).clamp_min_(_SMALLEST_NORM).reciprocal_()


def _label_cosines(directions_BD: Tensor, weight: Tensor, inverse_norms: Tensor, columns_B: Tensor) -> Tensor:
    vectors = weight[columns_B].to(directions_BD.dtype) * inverse_norms[columns_B].unsqueeze(-1)
    if weight.dim() == 2:
        return (directions_BD * vectors).sum(dim=1)
    return (directions_BD[:, None, :] * vectors).sum(dim=2).amax(dim=1)


class _Kernels(NamedTuple):
    absorb_chunk: Callable[..., None]
    chunk_gradient: Callable[..., Tensor]


def _kernels(scaled_BD: Tensor, rule: ChunkRule) -> _Kernels:
    """The Triton kernels where they can run, else the torch version, which gives the same numbers."""
    if scaled_BD.is_cuda and scaled_BD.dtype == torch.float32 and rule.sub_centres == 1 and _has_triton():
        from facerec.models import chunks_triton

        return _Kernels(absorb_chunk=chunks_triton.absorb_chunk, chunk_gradient=chunks_triton.chunk_gradient)
    return _Kernels(absorb_chunk=chunks.absorb_chunk, chunk_gradient=chunks.chunk_gradient)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
