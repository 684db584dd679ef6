"""Finding faces and their five landmarks with the MTCNN of facenet-pytorch, where that is installed.

The package carries its weights, so nothing is downloaded. Its metadata asks for a torch of 2024, with which nothing
else here works; it runs with current ones, so it is installed without its dependencies.
Source: Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks".
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facerec.errors import UsageError

__all__ = ["INSTALL_COMMAND", "check_detector", "detect_landmarks"]

INSTALL_COMMAND = "python -m pip install --no-deps facenet-pytorch==2.6.0"
_PACKAGE = "facenet_pytorch"
_SMALLEST_FACE = 20
"""Pixels; smaller faces are not looked for."""
_LONGEST_SIDE = 1600
"""Larger photographs are reduced before the search, which takes time and memory by their pixels."""
_MIN_PROBABILITY = 0.9


def check_detector() -> None:
    """Whether a detector is installed.

    Raises:
        UsageError: there is none; says how to get it.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        raise UsageError(
            f"no face detector is installed; run: {INSTALL_COMMAND} - or give the landmarks with --landmarks FILE"
        )


def detect_landmarks(photo_HWC: NDArray[np.uint8], *, device: str = "cpu") -> list[NDArray[np.float64]]:
    """The landmarks of every face, the largest first, each (5, 2), x and y in pixels of the photograph.

    Shape: ``photo_HWC`` (H, W, 3) uint8.
    """
    height, width = photo_HWC.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if min(height, width) * scale < _SMALLEST_FACE:
        return []
    image = Image.fromarray(photo_HWC)
    if scale < 1.0:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC, reducing_gap=3.0)
    with warnings.catch_warnings():
        # numpy warns of arrays of different lengths, which the package makes on purpose.
        warnings.simplefilter("ignore")
        _, probabilities, points = _detector(device).detect(image, landmarks=True)
    if points is None:
        return []
    # Both count from the middle of the first pixel.
    factors = np.array([width / image.width, height / image.height])
    return [
        (np.asarray(face, dtype=np.float64) + 0.5) * factors - 0.5
        for face, probability in zip(points, probabilities, strict=True)
        if probability is not None and probability >= _MIN_PROBABILITY
    ]


@functools.lru_cache(maxsize=1)
def _detector(device: str) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from facenet_pytorch import MTCNN

        # Worker processes share the processors already.
        torch.set_num_threads(1)
        return MTCNN(keep_all=True, min_face_size=_SMALLEST_FACE, device=torch.device(device)).eval()
