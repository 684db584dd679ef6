"""ElasticFace: margins drawn anew for every picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.models.counters import counter_normal
from facerec.models.heads.angles import add_angle
from facerec.models.heads.base import CosineHead, Observation
from facerec.models.heads.cosine import check_margin

__all__ = ["ElasticArcFace", "ElasticCosFace"]


class _Elastic(CosineHead):
    """What the two variants share: the drawn margins.

    A margin depends on (``draw_seed``, ``draws``, place in the joint batch) alone. Both numbers are buffers and saved
    with the head, so a resumed training draws what an uninterrupted one would, and any number of ranks draws the same.
    """

    draw_seed: Tensor
    draws: Tensor

    def __init__(
        self, *, embedding_size: int, num_classes: int, scale: float, margin: float, margin_std: float, plus: bool
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        self.margin = margin
        self.margin_std = margin_std
        self.plus = plus
        self.register_buffer("draw_seed", torch.randint(2**62, ()))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, batch: Observation) -> Tensor:
        """The margin of each picture: drawn in training, the mean in evaluation; (B,)."""
        cos_B = batch.cos_B
        if not self.training:
            return torch.full_like(cos_B, self.margin)
        places_B = torch.arange(cos_B.shape[0], device=cos_B.device)
        normal_B = counter_normal((self.draw_seed, self.draws), places_B)
        margins_B = (self.margin + self.margin_std * normal_B).to(cos_B.dtype)
        self.draws += 1
        if not self.plus:
            return margins_B
        return margins_B.sort().values[cos_B.argsort(descending=True).argsort()]

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, margin_std={self.margin_std}, plus={self.plus}"


class ElasticArcFace(_Elastic):
    """Logits s·cos(θ + m) at the label with m ~ N(margin, margin_std²) for each picture, s·cos θ elsewhere.

    ``plus`` hands the drawn margins out by the cosine with the own class: the largest margin to the farthest picture.
    (The authors' code permutes them by the inverse ranking; here it is as the paper says.) The true gradient, and no
    fallback past π - m, as in the paper.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s].

    Source: Boutros et al. 2022, arXiv:2109.09526, eqs. 5 and 7; its σ is 0.05, and 0.0175 with ``plus``.

    Raises:
        ConfigError: the margin is not in [0, π).
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        margin: float = 0.5,
        margin_std: float = 0.05,
        plus: bool = False,
    ) -> None:
        check_margin(margin, below=math.pi, unit="an angle in radians,")
        super().__init__(
            embedding_size=embedding_size,
            num_classes=num_classes,
            scale=scale,
            margin=margin,
            margin_std=margin_std,
            plus=plus,
        )

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ + m) - cos θ; (B,)."""
        assert seen_B is not None
        return add_angle(cos_B, seen_B) - cos_B


class ElasticCosFace(_Elastic):
    """Logits s(cos θ - m) at the label with m ~ N(margin, margin_std²) for each picture, s·cos θ elsewhere.

    ``plus`` is that of `ElasticArcFace`.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), at most s, for any drawn margin that is not negative.

    Source: Boutros et al. 2022, arXiv:2109.09526, eqs. 6 and 7; its σ is 0.05, and 0.025 with ``plus``.

    Raises:
        ConfigError: the margin is not in [0, 2).
        ModelError: a label is outside [0, C), on the CPU.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        margin: float = 0.35,
        margin_std: float = 0.05,
        plus: bool = False,
    ) -> None:
        check_margin(margin, below=2.0, unit="a cosine")
        super().__init__(
            embedding_size=embedding_size,
            num_classes=num_classes,
            scale=scale,
            margin=margin,
            margin_std=margin_std,
            plus=plus,
        )

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """The drawn -m; (B,)."""
        assert seen_B is not None
        return -seen_B
