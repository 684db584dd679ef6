"""Pictures from strangers: limits on their number, bytes, pixels and time, checked before memory is taken."""

from __future__ import annotations

import base64
import binascii
import functools
import math
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerec.data.decode import decode_image
from facerec.errors import ImageError

__all__ = ["LIMITS", "Budget", "Limits", "decode_text"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    body_bytes: int = 1 << 25
    """Size of a request."""
    rows: int = 1024
    """Rows in a request."""
    values: int = 1 << 16
    """Values in a request; empty ones take a hundred times their bytes once they are parsed."""
    lines: int = 1 << 19
    """Lines of a CSV; base64 that is broken into lines has 436,000 of them in a whole body."""
    image_bytes: int = 1 << 23
    """Size of one encoded picture."""
    pixels: int = 1 << 22
    """Height times width of one picture; an aligned crop has 12,544."""
    total_pixels: int = 1 << 28
    """Of all pictures of a request; the slowest kind takes 5 s to decode so many."""
    seconds: float = math.inf
    """How long a request may take; a server sets it."""
    json_depth: int = 32
    """Levels of brackets in a body."""
    bodies_bytes: int = 1 << 27
    """Size of all requests that a server process holds at a time; it takes four times as much memory to answer them."""


LIMITS = Limits()


class Budget:
    """What one request has left of its pixels and its time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pixels = limits.total_pixels
        self._end = time.monotonic() + limits.seconds

    def charge(self, pixels: int, *, what: str) -> None:
        """Take pixels off, before they are decoded.

        Raises:
            ImageError: there are not so many left.
        """
        if pixels > self._pixels:
            total = self._limits.total_pixels
            raise ImageError(f"{what} is beyond the {total} pixels that a request may have together; send fewer rows")
        self._pixels -= pixels

    def check_time(self, *, what: str) -> None:
        """See whether there is time for another step.

        Raises:
            ImageError: there is none.
        """
        if time.monotonic() > self._end:
            raise ImageError(f"{what} was not reached within {self._limits.seconds:g} s; send fewer rows at once")


_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
# A decoded picture can take 25 times the room of a row's other data; a few at a time are as fast as many on the cores.
_decoding = threading.BoundedSemaphore(2)


def decode_text(
    text: object, *, image_hw: tuple[int, int], what: str, limits: Limits = LIMITS, budget: Budget | None = None
) -> NDArray[np.uint8]:
    """Decode base64 of a JPEG, PNG or WebP; blanks, line ends and the opening of a ``data:`` URL are passed over.

    The picture is turned upright as its EXIF orientation says, once, and scaled to ``image_hw``. Its pixels are taken
    off ``budget``; without one it has the budget of a request to itself.

    Shape: result (*image_hw, 3) uint8, RGB.

    Raises:
        ImageError: one sentence, which ``what`` opens; it holds nothing of the picture.
    """
    budget = Budget(limits) if budget is None else budget
    budget.check_time(what=what)
    data = _from_base64(text, what=what, limits=limits)
    if not data.startswith(_SIGNATURES) or (data.startswith(b"RIFF") and data[8:12] != b"WEBP"):
        raise ImageError(f"{what} is no JPEG, PNG or WebP image")
    try:
        with _decoding:
            charge = functools.partial(budget.charge, what=what)
            return decode_image(
                data, image_hw=image_hw, what=what, upright=True, max_pixels=limits.pixels, charge=charge
            )
    except ImageError as error:
        # What a decoder says about damage can quote bytes of the picture.
        raise ImageError(str(error).partition(" (")[0]) from error


def _from_base64(text: object, *, what: str, limits: Limits) -> bytes:
    if not isinstance(text, str) or not text:
        raise ImageError(f"{what} is missing; give the base64 text of a JPEG, PNG or WebP image")
    # Four characters hold three bytes; line ends come on top.
    if len(text) > limits.image_bytes * 3 // 2:
        raise ImageError(f"{what} is too long; at most {limits.image_bytes} bytes are taken")
    payload = text
    if payload.startswith("data:"):
        payload = payload[:100].partition(",")[2] + payload[100:]
    try:
        data = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{what} is no valid base64 text") from error
    if not data:
        raise ImageError(f"{what} is empty")
    if len(data) > limits.image_bytes:
        raise ImageError(f"{what} is too long; at most {limits.image_bytes} bytes are taken")
    return data
