"""The plain normalised softmax: no margin."""

from __future__ import annotations

import torch
from torch import Tensor

from facerec.models.heads.base import CosineHead

__all__ = ["Softmax"]


class Softmax(CosineHead):
    """Logits s·cos θ: what every margin is compared with.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s].

    Source: Wang et al. 2017, NormFace, arXiv:1704.06369, eq. 6, with a fixed scale.

    Raises:
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """Nothing; (B,)."""
        return torch.zeros_like(cos_B)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}"
