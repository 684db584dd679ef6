"""CosFace: an additive margin on the cosine."""

from __future__ import annotations

from torch import Tensor, nn

from facerec.models.heads.cosine import add_at_labels, check_labels, check_margin, class_centres, scaled_cosines
from facerec.models.precision import full_precision

__all__ = ["CosFace"]


class CosFace(nn.Module):
    """Logits s(cos θ - m) at the label, s·cos θ elsewhere.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s(1 + m), s].

    Source: Wang et al. 2018, arXiv:1801.09414, eq. 4; m = 0.4 as in arcface_torch, 0.35 in the paper.

    Raises:
        ConfigError: the margin is not in [0, 2), the range of a difference of cosines.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float, margin: float = 0.4) -> None:
        super().__init__()
        check_margin(margin, below=2.0, unit="a cosine")
        self.scale = scale
        self.margin = margin
        self.weight = class_centres(num_classes=num_classes, embedding_size=embedding_size)

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Logits (B, C) of embeddings (B, D), for the loss with labels (B,)."""
        check_labels(labels_B, num_classes=self.weight.shape[0])
        with full_precision(embeddings_BD):
            logits_BC = scaled_cosines(embeddings_BD, self.weight, scale=self.scale)
            change_B = logits_BC.new_full(labels_B.shape, -self.scale * self.margin)
            return add_at_labels(logits_BC, labels_B, change_B)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}"
