"""AdaFace: a margin that follows the quality of the picture, which the norm of the embedding tells."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.models.heads.base import CosineHead, Observation
from facerec.models.heads.cosine import check_margin

__all__ = ["AdaFace"]

_EPS = 1e-3
_NORM_RANGE = (0.001, 100.0)
_FIRST_MEAN = 20.0
_FIRST_STD = 100.0


class AdaFace(CosineHead):
    """Logits s(cos(θ - m·k) - (m + m·k)) at the label, s·cos θ elsewhere.

    k in [-1, 1] says how far the norm of the embedding is above the running mean of the norms, in running standard
    deviations times ``h``. At k = -1 (poor pictures) the head acts like ArcFace, at k = 0 like CosFace, and at k = 1 it
    takes a margin of -m in the angle and of 2m in the cosine. The cosines are held within ±(1 - 0.001). The gradient
    does not pass through the norm.

    The running statistics ``batch_mean`` and ``batch_std`` are buffers, so they are saved with the head; they follow
    each training batch before it is used, by the share ``t_alpha``, and stay in evaluation. In a distributed training
    they are those of the joint batch.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s(1 + 2m), s].

    Source: Kim et al. 2022, arXiv:2204.00964, eqs. 6 to 10, and the constants of its authors' ``head.py``.

    Raises:
        ConfigError: the margin is not in [0, π).
        ModelError: a label is outside [0, C), on the CPU.
    """

    cos_limit = 1.0 - _EPS
    batch_mean: Tensor
    batch_std: Tensor

    def __init__(
        self,
        *,
        embedding_size: int,
        num_classes: int,
        scale: float,
        margin: float = 0.4,
        h: float = 0.333,
        t_alpha: float = 0.01,
    ) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        check_margin(margin, below=math.pi, unit="a number")
        self.margin = margin
        self.h = h
        self.t_alpha = t_alpha
        self.register_buffer("batch_mean", torch.tensor(_FIRST_MEAN))
        self.register_buffer("batch_std", torch.tensor(_FIRST_STD))

    @torch.no_grad()
    def observe(self, batch: Observation) -> Tensor:
        """The indicator k of each embedding, in [-1, 1]; follows the batch first when in training; (B,)."""
        norms_B = batch.norms_B.clamp(*_NORM_RANGE)
        if self.training:
            mean, std = _mean_std(norms_B, std_of_one=self.batch_std)
            self.batch_mean.lerp_(mean.to(self.batch_mean.dtype), self.t_alpha)
            self.batch_std.lerp_(std.to(self.batch_std.dtype), self.t_alpha)
        return (self.h * (norms_B - self.batch_mean) / (self.batch_std + _EPS)).clamp(-1.0, 1.0)

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """cos(θ - m·k) - (m + m·k) - cos θ; (B,)."""
        assert seen_B is not None
        theta_B = (torch.acos(cos_B) - self.margin * seen_B).clamp(_EPS, math.pi - _EPS)
        return torch.cos(theta_B) - self.margin * (1.0 + seen_B) - cos_B

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"scale={self.scale}, margin={self.margin}, h={self.h}, t_alpha={self.t_alpha}"


def _mean_std(norms_B: Tensor, *, std_of_one: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of the norms, float64.

    A single norm has no deviation: ``std_of_one`` is returned for it.
    """
    norms_B = norms_B.double()
    moments = torch.stack([torch.ones_like(norms_B), norms_B, norms_B.square()]).sum(dim=1)
    count, total, total_of_squares = moments.unbind()
    mean = total / count
    variance = (total_of_squares - count * mean.square()) / (count - 1.0).clamp_min(1.0)
    return mean, torch.where(count > 1.0, variance.clamp_min(0.0).sqrt(), std_of_one.double())
