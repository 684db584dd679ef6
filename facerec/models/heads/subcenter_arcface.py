"""Sub-centre ArcFace: several centres for each class, so that wrongly labelled pictures gather at one of their own."""

from __future__ import annotations

import math

from torch import Tensor

from facerec.errors import ConfigError
from facerec.models.heads.angles import arc_change, check_gradient
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["SubcenterArcFace"]


class SubcenterArcFace(CosineHead):
    """ArcFace on the cosine with the nearest of a class's K centres.

    The weight is (C, K, D), or (C, D) with one centre, which is ArcFace. ``gradient`` is that of
    `facerec.models.heads.arcface.ArcFace`.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s], down to -s(1 + m sin m) past π - m.

    Source: Deng et al. 2020, "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces", ECCV,
    eq. 4; K = 3.

    Raises:
        ConfigError: the margin is not in [0, π), the gradient is unknown, or there is no centre.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        margin: float = 0.5,
        sub_centres: int = 3,
        gradient: str = "exact",
    ) -> None:
        if sub_centres < 1:
            raise ConfigError(f"head.sub_centres: must be 1 or more, not {sub_centres}")
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale, sub_centres=sub_centres)
        check_margin(margin, below=math.pi, unit="an angle in radians,")
        check_gradient(gradient)
        self.margin = margin
        self.sub_centres = sub_centres
        self.gradient = gradient

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ + m) - cos θ for the nearest centre of the class, or as the variant says; (B,)."""
        return arc_change(cos_B, self.margin, gradient=self.gradient)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, sub_centres={self.sub_centres}, gradient={self.gradient}"
