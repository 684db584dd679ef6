"""Random numbers from counters, drawn where the tensors are.

The counterpart of `facerec.rng` on a device: equal on every device, and without waiting for it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["counter_bits", "counter_normal"]

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def _mix(state: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) on int64, whose products wrap around."""
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    # The shift of a signed number repeats the sign; the mask makes it that of an unsigned one.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def counter_bits(counters: tuple[int | Tensor, ...], indices: Tensor) -> Tensor:
    """64 random bits that depend on the counters and the index alone; int64, shape of ``indices`` (int64)."""
    state = torch.zeros((), dtype=torch.int64, device=indices.device)
    for counter in counters:
        # A seed may have any size; its low 64 bits count, as a signed number.
        signed = (counter + 2**63) % 2**64 - 2**63 if isinstance(counter, int) else counter
        state = _mix((state ^ signed) + _GOLDEN)
    return _mix(_mix((state ^ indices) + _GOLDEN) + _GOLDEN)


def counter_normal(counters: tuple[int | Tensor, ...], indices: Tensor) -> Tensor:
    """Standard normal numbers (Box and Muller 1958); float64, shape of ``indices`` (int64)."""
    first = _uniform(counter_bits((*counters, 0), indices))
    second = _uniform(counter_bits((*counters, 1), indices))
    return torch.sqrt(-2.0 * torch.log1p(-first)) * torch.cos(2.0 * math.pi * second)


def _uniform(bits: Tensor) -> Tensor:
    return _shifted(bits, 11).double() * 2.0**-53
