"""Random changes of training pictures, on 8-bit RGB.

Every random number is drawn from (seed, epoch, index of the picture), so a picture is changed in the same way whatever
the worker, the batch or the interruption. Each change draws from its own stream: switching one on leaves the others
as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.config.schema import AugmentConfig
from facerec.data import augment_ops as ops
from facerec.rng import counter_uniform

__all__ = ["augment_batch"]

Pixels = NDArray[np.uint8]
Draws = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One change: its key in the configuration, its stream of random numbers and how many of them it takes."""

    name: str
    stream: int
    num_draws: int
    apply: Callable[[Pixels, Any, Draws], Pixels]


# The order of AugmentConfig's keys. A stream's number is part of what a seed means: never reuse or change one.
_STEPS = (
    _Step(name="random_crop", stream=101, num_draws=4, apply=ops.random_crop),
    _Step(name="shift", stream=102, num_draws=2, apply=ops.shift),
    _Step(name="flip", stream=103, num_draws=0, apply=ops.flip),
    _Step(name="color_jitter", stream=104, num_draws=3, apply=ops.color_jitter),
    _Step(name="grey", stream=105, num_draws=0, apply=ops.grey),
    _Step(name="low_resolution", stream=106, num_draws=3, apply=ops.low_resolution),
    _Step(name="blur", stream=107, num_draws=1, apply=ops.blur),
    _Step(name="jpeg_quality", stream=108, num_draws=1, apply=ops.jpeg_quality),
    _Step(name="erasing", stream=109, num_draws=5, apply=ops.erasing),
)


def augment_batch(
    images_BHWC: Pixels, config: AugmentConfig, *, seed: int, epoch: int, indices: NDArray[np.integer[Any]]
) -> Pixels:
    """Change a batch in place, and return it.

    Shape: ``images_BHWC`` (B, H, W, 3) uint8, RGB; ``indices`` (B,), the places of the pictures in the training set.
    """
    for step in _STEPS:
        section = getattr(config, step.name)
        if section.p == 0.0:
            continue
        draws = counter_uniform(seed, epoch, indices, stream=step.stream, draws=1 + step.num_draws)
        for row in np.flatnonzero(draws[:, 0] < section.p):
            images_BHWC[row] = step.apply(images_BHWC[row], section, draws[row, 1:])
    return images_BHWC
