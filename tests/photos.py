"""Folders of drawn photographs, a folder per person, for tests of the data commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from facerec.data.synthetic import draw_identity

__all__ = ["encode", "photograph", "write_people"]


def photograph(person: int, number: int, *, side: int = 32) -> NDArray[np.uint8]:
    """A drawing of a person with the noise of one picture; (side, side, 3) uint8."""
    noise = np.random.default_rng([person, number]).integers(-8, 9, size=(side, side, 3))
    return np.clip(draw_identity(person, side=side) + noise, 0, 255).astype(np.uint8)


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG."""
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=92)
    return encoded


def write_people(folder: Path, counts: dict[str, int], *, side: int = 32) -> Path:
    """Write ``folder/NAME/NAME_0001.jpg`` and so on; returns the folder."""
    for person, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            image = encode(photograph(person, number, side=side))
            (folder / name / f"{name}_{number:04d}.jpg").write_bytes(image)
    return folder
