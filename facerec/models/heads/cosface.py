"""CosFace: an additive margin on the cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["CosFace"]


class CosFace(CosineHead):
    """Logits s(cos θ - m) at the label, s·cos θ elsewhere.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s(1 + m), s].

    Source: Wang et al. 2018, arXiv:1801.09414, eq. 4; m = 0.4 as in arcface_torch, 0.35 in the paper.

    Raises:
        ConfigError: the margin is not in [0, 2), the range of a difference of cosines.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float, margin: float = 0.4) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(margin, below=2.0, unit="a cosine")
        self.margin = margin

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """The constant -m; (B,)."""
        return torch.full_like(cos_B, -self.margin)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}"
