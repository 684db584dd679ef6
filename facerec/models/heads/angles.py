"""Margins on the angle as functions of the cosine, differentiable at every cosine.

Shape: cosines (B,), any; result (B,). Angles are in radians.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from facerec.errors import ConfigError

__all__ = [
    "GRADIENTS",
    "add_angle",
    "angle_of",
    "arc_change",
    "check_gradient",
    "classic_margin",
    "continued_cos",
]

GRADIENTS = ("exact", "straight_through")

_SMALLEST_SIN_SQUARED = 1e-12
_LARGEST_COS = 1.0 - 1e-7


def check_gradient(gradient: str) -> None:
    """Refuse an unknown way of taking the gradient.

    Raises:
        ConfigError: ``gradient`` is none of `GRADIENTS`.
    """
    if gradient not in GRADIENTS:
        raise ConfigError(f"head.gradient: must be one of {', '.join(GRADIENTS)}, not '{gradient}'")


def add_angle(cos_B: Tensor, margin_rad: float | Tensor) -> Tensor:
    """cos(θ + m) for any θ.

    At ``|cos θ|`` = 1 the derivative of sin θ has no bound; there it is cut off, and the value is off by 1e-6.
    """
    sin_B = (1.0 - cos_B.square()).clamp_min(_SMALLEST_SIN_SQUARED).sqrt()
    cos_m, sin_m = _cos_sin(margin_rad)
    return cos_B * cos_m - sin_B * sin_m


def classic_margin(cos_B: Tensor, margin_rad: float | Tensor, *, easy_margin: bool) -> Tensor:
    """cos(θ + m), and beyond θ = π - m, where that rises again, cos θ - m sin m.

    With ``easy_margin`` the margin applies where cos θ > 0 only, and cos θ elsewhere.

    Source: Deng et al. 2019, arXiv:1801.07698, and its authors' first implementation.
    """
    rotated_B = add_angle(cos_B, margin_rad)
    if easy_margin:
        return torch.where(cos_B > 0.0, rotated_B, cos_B)
    cos_m, sin_m = _cos_sin(margin_rad)
    return torch.where(cos_B > -cos_m, rotated_B, cos_B - margin_rad * sin_m)


def arc_change(cos_B: Tensor, margin_rad: float, *, gradient: str, easy_margin: bool = False) -> Tensor:
    """What ArcFace's margin adds to cos θ.

    With the ``exact`` gradient that of `classic_margin`; with ``straight_through`` cos(θ + m) - cos θ for any θ, as a
    constant: added to cos θ it gives the value, and the gradient of cos θ.
    """
    if gradient == "exact":
        return classic_margin(cos_B, margin_rad, easy_margin=easy_margin) - cos_B
    cos_B = cos_B.detach()
    return torch.cos(torch.acos(cos_B.clamp(-1.0, 1.0)) + margin_rad) - cos_B


def _cos_sin(angle_rad: float | Tensor) -> tuple[Any, Any]:
    # A number stays one: as a tensor it would have to be copied to the device at every step.
    if isinstance(angle_rad, Tensor):
        return torch.cos(angle_rad), torch.sin(angle_rad)
    return math.cos(angle_rad), math.sin(angle_rad)


def angle_of(cos_B: Tensor) -> Tensor:
    """The angle θ in [0, π] of a cosine, with a bounded derivative: cosines are held within ±(1 - 1e-7)."""
    limit = _LARGEST_COS if cos_B.dtype == torch.float64 else 1.0 - 2.0 * torch.finfo(torch.float32).eps
    return torch.acos(cos_B.clamp(-limit, limit))


def continued_cos(angle_B: Tensor) -> Tensor:
    """The cosine up to an angle x of π, and beyond it (-1)^k cos x - 2k with k = ⌊x / π⌋, which goes on falling.

    Source: Liu et al. 2017, arXiv:1704.08063, eq. 7 (ψ).
    """
    turns_B = torch.floor(angle_B.detach() / math.pi)
    sign_B = 1.0 - 2.0 * torch.remainder(turns_B, 2.0)
    return sign_B * torch.cos(angle_B) - 2.0 * turns_B
