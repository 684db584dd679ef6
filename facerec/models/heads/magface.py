"""MagFace: a margin that grows with the norm of the embedding, and a pull on the norm."""

from __future__ import annotations

import math

from torch import Tensor

from facerec.errors import ConfigError
from facerec.models.heads.angles import classic_margin
from facerec.models.heads.base import CosineHead
from facerec.models.heads.cosine import check_margin

__all__ = ["MagFace"]


class MagFace(CosineHead):
    """Logits s·cos(θ + m(a)) at the label, s·cos θ elsewhere, and λ_g·g(a) beside the cross-entropy.

    a is the norm of the embedding, held within [l_a, u_a]; m(a) rises linearly from l_m to u_m over that range, and
    g(a) = a / u_a² + 1 / a falls over it, so that easy pictures are rewarded for long embeddings. The gradient passes
    through the norm. ``easy_margin``, on in the authors' code, applies the margin where cos θ > 0 only; without it the
    value past θ = π - m is cos θ - m sin m. The logits alone lack the regulariser: `regulariser` has it, and
    `facerec.models.classification` adds it to the loss.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s], down to -s(1 + m sin m) without the easy margin.

    Source: Meng et al. 2021, arXiv:2103.06627, eqs. 3 to 5, and the constants of its authors' ``run.sh``.

    Raises:
        ConfigError: not 0 < l_a < u_a, not 0 <= l_m <= u_m, or u_m is not below π.
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_m: float = 0.45,
        u_m: float = 0.8,
        lambda_g: float = 35.0,
        easy_margin: bool = True,
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        if not 0.0 < l_a < u_a:
            raise ConfigError(f"head.l_a: must be above 0 and below head.u_a ({u_a:g}), not {l_a:g}")
        check_margin(u_m, below=math.pi, unit="an angle in radians,", key="u_m")
        if not 0.0 <= l_m <= u_m:
            raise ConfigError(f"head.l_m: must be an angle in radians from 0 to head.u_m ({u_m:g}), not {l_m:g}")
        self.l_a = l_a
        self.u_a = u_a
        self.l_m = l_m
        self.u_m = u_m
        self.lambda_g = lambda_g
        self.easy_margin = easy_margin

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ + m(a)) - cos θ; (B,)."""
        slope = (self.u_m - self.l_m) / (self.u_a - self.l_a)
        margin_rad_B = self.l_m + slope * (norms_B.clamp(self.l_a, self.u_a) - self.l_a)
        return classic_margin(cos_B, margin_rad_B, easy_margin=self.easy_margin) - cos_B

    def regulariser(self, norms_B: Tensor) -> Tensor:
        """λ_g times the mean of g(a) over the batch; a scalar."""
        norms_B = norms_B.clamp(self.l_a, self.u_a)
        return self.lambda_g * (norms_B / self.u_a**2 + 1.0 / norms_B).mean()

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return (
            f"scale={self.scale}, l_a={self.l_a}, u_a={self.u_a}, l_m={self.l_m}, u_m={self.u_m}, "
            f"lambda_g={self.lambda_g}, easy_margin={self.easy_margin}"
        )
