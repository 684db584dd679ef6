"""What every margin head is: class centres, a margin at the label, and what it learns from a batch.

A head is written once and used in three ways: with all logits (its own ``forward``), over a part of the classes
(`facerec.models.sharded`), and without logits (`facerec.models.fused`). All three ask it the same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facerec.models.heads.cosine import add_at_labels, at_labels, check_labels, class_centres, scaled_cosines
from facerec.models.precision import full_precision, full_precision_dtype
from facerec.models.spread import ALONE, Spread

__all__ = ["CosineHead", "HardRule", "Observation"]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a head may learn from a batch, which is the joint one of all processes; nothing of it carries a gradient."""

    cos_B: Tensor
    """Cosine of each embedding with the centre of its class."""
    norms_B: Tensor
    """Norm of each embedding."""
    others_lse_B: Callable[[], Tensor]
    """Log of the sum, over all other classes, of exp(logit) at `CosineHead.current_scale`; computed when called."""


class HardRule(NamedTuple):
    """How other classes' cosines above a threshold change: to cos θ (t + cos θ)."""

    threshold_B: Tensor
    """The cosine above which a class is hard for the row."""
    t: Tensor
    """A scalar."""


class CosineHead(nn.Module):
    """Logits s·cos θ of every class, with the margin of a subclass at the label.

    A subclass says what it adds to the cosine at the label (`label_change`), and may hold its cosines within
    ``cos_limit``, learn from each batch (`observe`), change hard classes (`hard_rule`), and add to the loss
    (`regulariser`).

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``). The weight is (C, D), or (C, K, D) with K centres per class, the nearest of which counts.
    """

    weight: nn.Parameter
    cos_limit: float = 1.0
    """Largest absolute cosine; 1 holds nothing back. For heads of a fixed scale only."""

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float, sub_centres: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = scale
        self.weight = class_centres(num_classes=num_classes, embedding_size=embedding_size, sub_centres=sub_centres)

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """What the margin adds to the cosine at the label; (B,).

        ``seen_B`` is what `observe` returned for these rows.
        """
        raise NotImplementedError

    def observe(self, batch: Observation) -> Tensor | None:
        """Learn from the batch, when in training; returns what `label_change` needs to know of each row; (B,)."""
        return None

    def hard_rule(self, cos_B: Tensor) -> HardRule | None:
        """How hard other classes change, from the cosines at the labels (no gradient); None for not at all."""
        return None

    def regulariser(self, norms_B: Tensor) -> Tensor | None:
        """What the head adds to the loss beside the cross-entropy, averaged over the batch; a scalar or None."""
        return None

    def current_scale(self) -> float | Tensor:
        """The factor s on the cosines."""
        return self.scale

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Logits (B, C) of embeddings (B, D), for the loss with labels (B,)."""
        check_labels(labels_B, num_classes=self.num_classes)
        with full_precision(embeddings_BD):
            embeddings_BD = embeddings_BD.to(full_precision_dtype(self.weight))
            norms_B = embeddings_BD.norm(dim=1)
            return self.logits_over(self.weight, embeddings_BD, labels_B, norms_B=norms_B, spread=ALONE)

    def logits_over(
        self, weight: Tensor, embeddings_BD: Tensor, columns_B: Tensor, *, norms_B: Tensor, spread: Spread
    ) -> Tensor:
        """Logits over the classes of ``weight``, which may be a part of the head's; (B, C).

        Call it where autocast is off, with embeddings in the dtype to compute in. ``columns_B`` is the row of
        ``weight`` that holds the class of each embedding, -1 where it is not among them.
        """
        scale = self.current_scale()
        logits_BC = scaled_cosines(embeddings_BD, weight, scale=scale)
        if self.cos_limit < 1.0:
            logits_BC = logits_BC.clamp(-self.scale * self.cos_limit, self.scale * self.cos_limit)
        is_here_B, columns_B = columns_B >= 0, columns_B.clamp_min(0)
        cos_B = at_labels(logits_BC, columns_B) / scale
        batch = Observation(
            cos_B=spread.sum_classes(torch.where(is_here_B, cos_B.detach(), 0.0)),
            norms_B=norms_B.detach(),
            others_lse_B=lambda: _others_lse(logits_BC.detach(), columns_B, is_here_B=is_here_B, spread=spread),
        )
        seen_B = self.observe(batch)
        new_scale = self.current_scale()
        if isinstance(scale, Tensor):
            logits_BC = logits_BC * (new_scale / scale)
        if (rule := self.hard_rule(batch.cos_B)) is not None:
            logits_BC = _harden(logits_BC, rule, columns_B, is_here_B=is_here_B, scale=new_scale)
        change_B = new_scale * self.label_change(cos_B, norms_B=norms_B, seen_B=seen_B)
        return add_at_labels(logits_BC, columns_B, torch.where(is_here_B, change_B, 0.0))


def _others_lse(logits_BC: Tensor, columns_B: Tensor, *, is_here_B: Tensor, spread: Spread) -> Tensor:
    rows_B = torch.arange(logits_BC.shape[0], device=logits_BC.device)
    masked_BC = logits_BC.clone()
    masked_BC[rows_B, columns_B] = torch.where(is_here_B, -torch.inf, masked_BC[rows_B, columns_B])
    largest_B = spread.max_classes(masked_BC.amax(dim=1))
    sums_B = spread.sum_classes((masked_BC - largest_B[:, None]).exp_().sum(dim=1))
    return largest_B + sums_B.log()


def _harden(
    logits_BC: Tensor, rule: HardRule, columns_B: Tensor, *, is_here_B: Tensor, scale: float | Tensor
) -> Tensor:
    with torch.no_grad():
        is_hard_BC = logits_BC > (scale * rule.threshold_B)[:, None]
        rows_B = torch.arange(logits_BC.shape[0], device=logits_BC.device)
        is_hard_BC[rows_B, columns_B] &= ~is_here_B
    return torch.where(is_hard_BC, logits_BC * (rule.t + logits_BC / scale), logits_BC)
