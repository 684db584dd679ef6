"""Which faces are good enough, and what to say of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerec.data.align.geometry import Similarity
from facerec.errors import UsageError

__all__ = ["QualityGate", "face_pixels", "reason_to_reject", "sharpness"]


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityGate:
    """Limits below or above which a face is listed and not written; 0 switches a limit off."""

    min_face_pixels: float = 40.0
    """Smallest height, in pixels of the photograph, of the region that becomes the aligned face."""
    min_sharpness: float = 15.0
    """Smallest variance of the Laplacian of the aligned face; see `sharpness`."""
    max_residual: float = 16.0
    """Largest distance of the landmarks from the template, in pixels of the aligned face; profiles reach 10."""

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        if not all(
            0 <= limit < float("inf") for limit in (self.min_face_pixels, self.min_sharpness, self.max_residual)
        ):
            raise UsageError("the limits of the quality gate are numbers from 0; 0 switches one off")


def face_pixels(similarity: Similarity, image_hw: tuple[int, int]) -> float:
    """The height, in pixels of the photograph, of what becomes the aligned face."""
    return image_hw[0] / similarity.scale


def sharpness(face_HWC: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian (4 neighbours) of the grey face, without a border of 8 pixels.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", LAP4.
    """
    grey = face_HWC[8:-8, 8:-8].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def reason_to_reject(
    gate: QualityGate, *, similarity: Similarity, image_hw: tuple[int, int], sharpness_of_face: float
) -> str | None:
    """Why a face is not good enough; None where it is."""
    pixels = face_pixels(similarity, image_hw)
    if pixels < gate.min_face_pixels:
        return f"too small: the face has {pixels:.0f} pixels, {gate.min_face_pixels:g} are asked for"
    if gate.max_residual and similarity.residual > gate.max_residual:
        return f"no frontal face: the landmarks are {similarity.residual:.1f} pixels off, {gate.max_residual:g} may be"
    if sharpness_of_face < gate.min_sharpness:
        return f"too blurred: the sharpness is {sharpness_of_face:.1f}, {gate.min_sharpness:g} is asked for"
    return None
