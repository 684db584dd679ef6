"""CurricularFace: ArcFace whose hard classes weigh more as the training gets on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.models.heads.angles import add_angle, classic_margin
from facerec.models.heads.base import CosineHead, HardRule, Observation
from facerec.models.heads.cosine import check_margin

__all__ = ["CurricularFace"]


class CurricularFace(CosineHead):
    """Logits s·cos(θ + m) at the label; elsewhere s·cos θ, or s·cos θ (t + cos θ) for hard classes.

    A class is hard for a picture when its cosine is above cos(θ + m) of the own class. ``t`` is the running mean of
    the cosines with the own class: it starts at 0, follows each training batch before it is used by the share
    ``t_alpha``, and is saved with the head; in a distributed training it is that of the joint batch. Past θ = π - m
    the value at the label is cos θ - m sin m.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), at most 2s.

    Source: Huang et al. 2020, arXiv:2004.00288, eqs. 5 to 8, and the constants of its authors' ``metrics.py``.

    Raises:
        ConfigError: the margin is not in [0, π).
        ModelError: a label is outside [0, C), on the CPU.
    """

    t: Tensor

    def __init__(
        self, *, embedding_size: int, num_classes: int, scale: float, margin: float = 0.5, t_alpha: float = 0.01
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(margin, below=math.pi, unit="an angle in radians,")
        self.margin = margin
        self.t_alpha = t_alpha
        self.register_buffer("t", torch.zeros(()))

    @torch.no_grad()
    def observe(self, batch: Observation) -> None:
        """Let ``t`` follow the mean cosine of the joint batch, when in training."""
        if self.training:
            self.t.lerp_(batch.cos_B.double().mean().to(self.t.dtype), self.t_alpha)

    def hard_rule(self, cos_B: Tensor) -> HardRule:
        """Classes above cos(θ + m) are hard."""
        return HardRule(threshold_B=add_angle(cos_B.clamp(-1.0, 1.0), self.margin), t=self.t.clone())

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ + m) - cos θ, with the true gradient; (B,)."""
        return classic_margin(cos_B, self.margin, easy_margin=False) - cos_B

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, t_alpha={self.t_alpha}"
