"""From five landmarks to an aligned face.

Coordinates are (x, y) in pixels, and the middle of the first pixel is (0, 0), as detectors and the template have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facerec.errors import DataError, UsageError

__all__ = ["TEMPLATES", "Similarity", "fit_similarity", "template_for", "warp_face"]

_Points = NDArray[np.float64]
_ARCFACE_96 = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
)
_ARCFACE_96.setflags(write=False)
TEMPLATES = ((112, 112), (112, 96))
"""Height and width of the images that the template is made for."""
_MARGIN = 2.0
"""Pixels of the result that are kept around it while a photograph is reduced, for the interpolation at the border."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """A rotation, a scale and a shift: ``(x, y)`` becomes ``(a x - b y + c, b x + a y + d)``."""

    a: float
    b: float
    c: float
    d: float
    residual: float
    """Root mean square distance, in pixels of the result, of the landmarks from the template."""

    @property
    def scale(self) -> float:
        """Pixels of the result per pixel of the photograph."""
        return math.hypot(self.a, self.b)

    @property
    def angle_rad(self) -> float:
        """How far the face is turned back."""
        return math.atan2(self.b, self.a)

    def apply(self, points: _Points) -> _Points:
        """Shape (N, 2) to (N, 2)."""
        x, y = points[:, 0], points[:, 1]
        return np.stack([self.a * x - self.b * y + self.c, self.b * x + self.a * y + self.d], axis=1)


def template_for(image_hw: tuple[int, int]) -> _Points:
    """The places of eyes, nose and corners of the mouth in an aligned face; (5, 2) float64, in pixels.

    The order is left eye, right eye, nose, left and right corner of the mouth, as seen in the picture.

    Raises:
        UsageError: there is no template for that size.

    Source: the template of ArcFace (Deng et al. 2019) and, 96 wide, of SphereFace (Liu et al. 2017).
    """
    if image_hw not in TEMPLATES:
        sizes = " and ".join(f"{height}x{width}" for height, width in TEMPLATES)
        raise UsageError(f"there is no template for {image_hw[0]}x{image_hw[1]}; faces are aligned to {sizes}")
    return _ARCFACE_96 + (np.array([8.0, 0.0]) if image_hw[1] == 112 else 0.0)


def fit_similarity(landmarks: _Points, template: _Points) -> Similarity:
    """The similarity that takes landmarks to the template with the least squared distance.

    Shape: both (N, 2), N >= 2.

    Raises:
        DataError: the landmarks are not finite, or all in one place.

    Source: Umeyama 1991, equations 40 to 42, in the plane and without reflection; with points as complex numbers,
    w = m z + t, the factor is m = sum(conj(z - mean z) (w - mean w)) / sum |z - mean z|^2.
    """
    z = landmarks[:, 0] + 1j * landmarks[:, 1]
    w = template[:, 0] + 1j * template[:, 1]
    if not np.isfinite(z).all():
        raise DataError("the landmarks are no finite numbers")
    centred = z - z.mean()
    spread = float((centred.real**2 + centred.imag**2).sum())
    if spread < 1e-6 * len(z):
        raise DataError("the landmarks are all in one place")
    factor = (centred.conj() * (w - w.mean())).sum() / spread
    shift = w.mean() - factor * z.mean()
    residual = math.sqrt(float((np.abs(factor * z + shift - w) ** 2).mean()))
    return Similarity(float(factor.real), float(factor.imag), float(shift.real), float(shift.imag), residual)


def warp_face(photo_HWC: NDArray[np.uint8], similarity: Similarity, image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut the aligned face out of a photograph; black where the photograph ends.

    Where the photograph must shrink, it is first reduced by Pillow's antialiased resize and then turned, so that fine
    detail does not turn into false patterns, as it does where a warp samples one pixel in several.

    Shape: ``photo_HWC`` (H, W, 3) uint8; result (*image_hw, 3) uint8.

    Raises:
        DataError: the face lies outside of the photograph.
    """
    height, width = image_hw
    # Pillow counts from the corner of the first pixel, half a pixel before its middle.
    rotation = np.array([[similarity.a, -similarity.b], [similarity.b, similarity.a]])
    shift = np.array([similarity.c, similarity.d]) + 0.5 - rotation @ np.array([0.5, 0.5])
    inverse = np.linalg.inv(rotation)
    corners = (np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=float) - shift) @ inverse.T
    margin = _MARGIN / similarity.scale
    limits = np.array([photo_HWC.shape[1], photo_HWC.shape[0]], dtype=float)
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, limits)
    high = np.clip(np.ceil(corners.max(axis=0) + margin), 0, limits)
    if (high - low).min() < 1:
        raise DataError("the face lies outside of the picture")
    part, factors = _reduce(photo_HWC, low, high, min(1.0, similarity.scale))
    # From a place in the result to one in the part: undo the similarity, then move and scale.
    to_part = np.diag(factors) @ inverse
    start = factors * (-inverse @ shift - low)
    coefficients = (*to_part[0], start[0], *to_part[1], start[1])
    # On 8 bits Pillow cuts the fraction off, which would darken every face by half a level.
    planes = [
        channel.convert("F").transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
        for channel in part.split()
    ]
    face_HWC = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return np.clip(np.rint(face_HWC), 0, 255).astype(np.uint8)


def _reduce(photo_HWC: NDArray[np.uint8], low: _Points, high: _Points, scale: float) -> tuple[Image.Image, _Points]:
    """The part of a photograph between two corners, reduced, and the factors in x and y, which rounding sets apart."""
    left, top, right, bottom = (int(side) for side in (*low, *high))
    part = Image.fromarray(np.ascontiguousarray(photo_HWC[top:bottom, left:right]))
    if scale >= 1.0:
        return part, np.ones(2)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    factors = np.array([size[0] / part.width, size[1] / part.height])
    return part.resize(size, Image.Resampling.BICUBIC), factors
