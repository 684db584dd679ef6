"""AdaCos: no margin, and a scale that finds itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facerec.errors import ConfigError
from facerec.models.heads.base import CosineHead, Observation

__all__ = ["AdaCos"]


class AdaCos(CosineHead):
    """Logits s·cos θ with a scale that follows the training, and no margin.

    It starts at s = √2 ln(C - 1). Each training batch sets s = ln(B_avg) / cos(min(π/4, median θ)), where the angles
    are those with the own class and B_avg is the mean, over the batch, of the sum of exp(s·cos θ) over the other
    classes at the scale before. ``adaptive_scale`` is a buffer and saved with the head; evaluation uses the last one.
    In a distributed training it is that of the joint batch. ``scale`` is the largest value that it may take.

    Shape: embeddings (B, D), any floating dtype; labels (B,), int64 in [0, C); logits (B, C), float32 (float64 after
    ``module.double()``), in [-s, s].

    Source: Zhang et al. 2019, arXiv:1905.00292, eqs. 9 and 15.

    Raises:
        ConfigError: there are fewer than three classes, for which the scale is not defined.
        ModelError: a label is outside [0, C), on the CPU.
    """

    adaptive_scale: Tensor

    def __init__(self, *, embedding_size: int, num_classes: int, scale: float) -> None:
        super().__init__(embedding_size=embedding_size, num_classes=num_classes, scale=scale)
        if num_classes < 3:
            raise ConfigError(f"head.type: adacos needs at least 3 classes, not {num_classes}; use another head")
        first = math.sqrt(2.0) * math.log(num_classes - 1)
        self.register_buffer("adaptive_scale", torch.tensor(min(first, scale)))

    @torch.no_grad()
    def observe(self, batch: Observation) -> None:
        """Let the scale follow the joint batch, when in training."""
        if not self.training:
            return
        others_B = batch.others_lse_B()
        log_mean = others_B.logsumexp(0) - math.log(others_B.shape[0])
        median_rad = torch.acos(batch.cos_B.clamp(-1.0, 1.0)).median()
        scale = log_mean / torch.cos(median_rad.clamp_max(math.pi / 4))
        # With few classes that are far apart, B_avg can fall below 1 and the formula below 0; the scale stays positive.
        self.adaptive_scale.copy_(scale.clamp(1.0, max(1.0, self.scale)))

    def current_scale(self) -> Tensor:
        """The adaptive scale, as it is now; a scalar."""
        return self.adaptive_scale.to(torch.promote_types(self.weight.dtype, torch.float32), copy=True)

    def label_change(self, cos_B: Tensor, *, norms_B: Tensor, seen_B: Tensor | None) -> Tensor:
        """Nothing; (B,)."""
        return torch.zeros_like(cos_B)

    def extra_repr(self) -> str:
        """The settings, as ``print(model)`` shows them."""
        return f"largest scale={self.scale}"
