"""SphereFace: a factor on the angle."""

from __future__ import annotations

from torch import Tensor

from facerec.models.heads.angles import angle_of, continued_cos
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["SphereFace"]


class SphereFace(CosineHead):
    """Logits s·ψ(m·θ) at the label, s·cos θ elsewhere, with ψ(x) = (-1)^k cos x - 2k, k = ⌊x / π⌋.

    The embedding is normalised and scaled as in all heads here, which the original is not. With that, m = 1.35 trains
    without the original's slow mixing with the plain softmax; its m = 4 does not.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s(2m + 1), s].

    Source: Liu et al. 2017, arXiv:1704.08063, eq. 7; m = 1.35 by Deng et al. 2019, arXiv:1801.07698, table 2.

    Raises:
        ConfigError: the margin is not in [1, 10); 1 is the plain cosine.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float, margin: float = 1.35) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(margin, at_least=1.0, below=10.0, unit="a factor on the angle")
        self.margin = margin

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """ψ(m·θ) - cos θ; (B,)."""
        return continued_cos(self.margin * angle_of(cos_B)) - cos_B

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}"
