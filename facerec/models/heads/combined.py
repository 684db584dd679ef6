"""The combined margin: a factor and a shift on the angle, and a shift on the cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.models.heads.angles import angle_of, check_gradient, continued_cos
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["Combined"]


class Combined(CosineHead):
    """Logits s(cos(m1·θ + m2) - m3) at the label, s·cos θ elsewhere.

    (1, 0.5, 0) is ArcFace and (1, 0, 0.4) CosFace; the default is the paper's CM1. ``gradient`` is that of
    `facerec.models.heads.arcface.ArcFace`: ``straight_through`` has the value for every θ and the gradient of s·cos θ;
    ``exact`` has the true gradient, and where m1·θ + m2 passes π the cosine goes on falling, as SphereFace's ψ does.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s(1 + m3), s], and lower past π with the exact gradient.

    Source: Deng et al. 2019, arXiv:1801.07698, eq. 4; arcface_torch ``losses.py``.

    Raises:
        ConfigError: m1 is not in [0.5, 10), m2 not in [0, π), m3 not in [0, 2), or the gradient is unknown.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        gradient: str = "straight_through",
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(m1, at_least=0.5, below=10.0, unit="a factor on the angle", key="m1")
        check_margin(m2, below=math.pi, unit="an angle in radians,", key="m2")
        check_margin(m3, below=2.0, unit="a cosine", key="m3")
        check_gradient(gradient)
        self.m1 = m1
        self.m2 = m2
        self.m3 = m3
        self.gradient = gradient

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(m1·θ + m2) - m3 - cos θ; (B,)."""
        if self.gradient == "exact":
            if self.m1 == 1.0 and self.m2 == 0.0:
                return torch.full_like(cos_B, -self.m3)
            return continued_cos(self.m1 * angle_of(cos_B) + self.m2) - self.m3 - cos_B
        cos_B = cos_B.detach()
        angle_B = self.m1 * torch.acos(cos_B.clamp(-1.0, 1.0)) + self.m2
        return torch.cos(angle_B) - self.m3 - cos_B

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, m1={self.m1}, m2={self.m2}, m3={self.m3}, gradient={self.gradient}"
