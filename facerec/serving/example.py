"""A drawn picture for the input example of a model: no face of anyone."""

from __future__ import annotations

import numpy as np
import simplejpeg

__all__ = ["example_picture"]


def example_picture(image_hw: tuple[int, int]) -> bytes:
    """A small JPEG of a grey oval with two dots and a line, of the size that the model takes."""
    height, width = image_hw
    y, x = np.mgrid[0:height, 0:width]
    v, u = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    pixels = np.full((height, width, 3), 230, np.uint8)
    pixels[(u / 0.36) ** 2 + (v / 0.46) ** 2 < 1.0] = (170, 150, 140)
    pixels[((np.abs(u) - 0.15) / 0.06) ** 2 + ((v + 0.1) / 0.04) ** 2 < 1.0] = (40, 40, 40)
    pixels[(np.abs(u) < 0.12) & (np.abs(v - 0.22) < 0.02)] = (120, 60, 60)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=90)
    return encoded
