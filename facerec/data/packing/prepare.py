"""A photograph to the encoded image that goes into a pack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from facerec.data.decode import MAX_FILE_BYTES, decode_image, resize_image
from facerec.data.packing.scan import open_inside
from facerec.errors import DataError, UsageError

__all__ = ["Fit", "ImageForm", "encode_jpeg", "fit_image", "prepare_files", "prepare_image"]

Fit = Literal["crop", "pad", "stretch"]

_EXIF_MARK = b"Exif\0\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageForm:
    """What the images of a pack look like."""

    image_hw: tuple[int, int] = (112, 112)
    """Height and width in pixels."""
    quality: int = 95
    """Of JPEGs that are encoded anew, 1 to 100."""
    fit: Fit = "crop"
    """What happens to a picture of another aspect: its middle is cut out, black is added, or it is distorted."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not all(1 <= side <= 4096 for side in self.image_hw):
            raise UsageError(f"images of {self.image_hw[0]}x{self.image_hw[1]} are not made; give sides of 1 to 4096")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"JPEGs have a quality of 1 to 100, not {self.quality}")


def prepare_image(data: bytes, *, form: ImageForm) -> bytes:
    """The encoded image in its form: the same bytes where they are an upright JPEG of that size already.

    Raises:
        ImageError: it cannot be decoded.
    """
    is_jpeg = data.startswith(b"\xff\xd8")
    # Only the head of a file is searched for the mark, as EXIF must come first.
    turned = not is_jpeg or _EXIF_MARK in data[:65536]
    pixels_HWC = decode_image(data, upright=turned)
    if is_jpeg and pixels_HWC.shape[:2] == form.image_hw and not (turned and _is_turned(data, pixels_HWC)):
        return data
    return encode_jpeg(fit_image(pixels_HWC, form), quality=form.quality)


def fit_image(pixels_HWC: NDArray[np.uint8], form: ImageForm) -> NDArray[np.uint8]:
    """Scale to the form's size, with antialiasing; (H, W, 3) uint8 to (*image_hw, 3) uint8."""
    height, width = pixels_HWC.shape[:2]
    wanted_height, wanted_width = form.image_hw
    if form.fit == "crop":
        scale = min(height / wanted_height, width / wanted_width)
        kept_height, kept_width = max(1, round(wanted_height * scale)), max(1, round(wanted_width * scale))
        top, left = (height - kept_height) // 2, (width - kept_width) // 2
        pixels_HWC = np.ascontiguousarray(pixels_HWC[top : top + kept_height, left : left + kept_width])
    elif form.fit == "pad":
        scale = max(height / wanted_height, width / wanted_width)
        add_height, add_width = round(wanted_height * scale) - height, round(wanted_width * scale) - width
        sides = ((add_height // 2, add_height - add_height // 2), (add_width // 2, add_width - add_width // 2), (0, 0))
        pixels_HWC = np.pad(pixels_HWC, sides)
    return resize_image(pixels_HWC, form.image_hw)


def encode_jpeg(pixels_HWC: NDArray[np.uint8], *, quality: int) -> bytes:
    """JPEG without chroma subsampling, which costs small faces more than it saves."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels_HWC), quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return encoded


def prepare_files(relatives: list[str], *, root: Path, form: ImageForm) -> list[bytes | str]:
    """`prepare_image` of files under ``root``; in place of an image that cannot be used the reason stands."""
    results: list[bytes | str] = []
    for relative in relatives:
        try:
            results.append(prepare_image(open_inside(root, relative, max_bytes=MAX_FILE_BYTES), form=form))
        except DataError as error:
            results.append(str(error))
    return results


def _is_turned(data: bytes, upright_HWC: NDArray[np.uint8]) -> bool:
    return not np.array_equal(decode_image(data), upright_HWC)
