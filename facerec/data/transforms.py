"""From stored pixels to what a backbone takes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["normalise_images"]


def normalise_images(images_BCHW: Tensor) -> Tensor:
    """Map 8-bit pixels to [-1, 1] by ((x / 255) - 0.5) / 0.5, on the device where they are.

    Shape: ``images_BCHW`` (B, 3, H, W) uint8; result the same shape, float32, in the same memory format.

    Raises:
        ValueError: the pixels are not uint8, so that they may be normalised already.

    Source: arcface_torch ``dataset.py`` and ``eval/verification.py``.
    """
    if images_BCHW.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, not {images_BCHW.dtype}; they may be normalised already")
    return images_BCHW.to(torch.float32).sub_(127.5).mul_(1.0 / 127.5)
