"""ArcFace: an additive margin on the angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from facerec.errors import ConfigError
from facerec.models.heads.cosine import (
    add_at_labels,
    at_labels,
    check_labels,
    check_margin,
    class_centres,
    scaled_cosines,
)
from facerec.models.precision import full_precision

__all__ = ["ArcFace"]

_GRADIENTS = ("exact", "straight_through")
_SMALLEST_SIN_SQUARED = 1e-12


class ArcFace(nn.Module):
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
        super().__init__()
        check_margin(margin, below=math.pi, unit="an angle in radians,")
        if gradient not in _GRADIENTS:
            raise ConfigError(f"head.gradient: must be one of {', '.join(_GRADIENTS)}, not '{gradient}'")
        if easy_margin and gradient != "exact":
            raise ConfigError("head.easy_margin: belongs to the exact gradient; set head.gradient: exact or remove it")
        self.scale = scale
        self.margin = margin
        self.gradient = gradient
        self.easy_margin = easy_margin
        self.weight = class_centres(num_classes=num_classes, embedding_size=embedding_size)

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Logits (B, C) of embeddings (B, D), for the loss with labels (B,)."""
        check_labels(labels_B, num_classes=self.weight.shape[0])
        with full_precision(embeddings_BD):
            logits_BC = scaled_cosines(embeddings_BD, self.weight, scale=self.scale)
            cos_B = at_labels(logits_BC, labels_B) / self.scale
            if self.gradient == "exact":
                margin_cos_B = self._exact(cos_B)
            else:
                cos_B = cos_B.detach()
                margin_cos_B = torch.cos(torch.acos(cos_B.clamp(-1.0, 1.0)) + self.margin)
            return add_at_labels(logits_BC, labels_B, self.scale * (margin_cos_B - cos_B))

    def _exact(self, cos_B: Tensor) -> Tensor:
        # At |cos θ| = 1 the derivative of sin θ has no bound; there it is cut off, and the value is off by 1e-6.
        sin_B = (1.0 - cos_B.square()).clamp_min(_SMALLEST_SIN_SQUARED).sqrt()
        rotated_B = cos_B * math.cos(self.margin) - sin_B * math.sin(self.margin)
        if self.easy_margin:
            return torch.where(cos_B > 0.0, rotated_B, cos_B)
        past_pi_B = cos_B - self.margin * math.sin(self.margin)
        return torch.where(cos_B > -math.cos(self.margin), rotated_B, past_pi_B)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, gradient={self.gradient}, easy_margin={self.easy_margin}"
