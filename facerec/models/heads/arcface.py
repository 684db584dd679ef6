"""ArcFace: an additive margin on the angle."""

from __future__ import annotations

import math

from torch import Tensor

from facerec.errors import ConfigError
from facerec.models.heads.angles import arc_change, check_gradient
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["ArcFace"]


class ArcFace(CosineHead):
    """Logits s·cos(θ + m) at the label, s·cos θ elsewhere.

    ``gradient`` selects one of the two variants in use:

    - ``straight_through``: the value cos(θ + m) for every θ, and the gradient of s·cos θ, as if there were no margin.
      The published tables of arcface_torch since 2021 come from it.
    - ``exact``: the true gradient. Past θ = π - m, where cos(θ + m) rises again, the value is cos θ - m sin m; with
      ``easy_margin`` the margin applies where cos θ > 0 only.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s], down to -s(1 + m sin m) past π - m.

    Source: Deng et al. 2019, arXiv:1801.07698, eq. 3; arcface_torch ``losses.py``.

    Raises:
        ConfigError: the margin is not in [0, π), or the gradient is unknown.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        margin: float = 0.5,
        gradient: str = "straight_through",
        easy_margin: bool = False,
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(margin, below=math.pi, unit="an angle in radians,")
        check_gradient(gradient)
        if easy_margin and gradient != "exact":
            raise ConfigError("head.easy_margin: belongs to the exact gradient; set head.gradient: exact or remove it")
        self.margin = margin
        self.gradient = gradient
        self.easy_margin = easy_margin

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ + m) - cos θ, or as the variant says; (B,)."""
        return arc_change(cos_B, self.margin, gradient=self.gradient, easy_margin=self.easy_margin)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, gradient={self.gradient}, easy_margin={self.easy_margin}"
