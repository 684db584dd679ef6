"""Encoded images to 8-bit RGB.

JPEGs go through simplejpeg in its strict mode, so that a cut-off or corrupt picture is an error and not grey pixels;
everything else goes through Pillow. The size is read from the header and checked before memory is taken, and so is what
would take time out of proportion: the scans of a JPEG and the chunks of a PNG.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin

from facerec.data.image_headers import (
    MAX_PARTS,
    MAX_SCANS,
    exif_of_jpeg,
    has_many_chunks,
    has_many_scans,
    orientation_of,
    webp_size,
)
from facerec.errors import ImageError

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "decode_image", "read_image_file", "resize_image"]

MAX_PIXELS = 1 << 26
"""Largest height times width that is decoded: 67 megapixels, 200 MB as RGB."""
MAX_FILE_BYTES = 1 << 28
"""Largest image file that is read."""

ImageBytes = bytes | bytearray | memoryview
Charge = Callable[[int], None]

_SCANS_ARE_COUNTED_FROM = 1 << 32
"""Bytes times pixels of a JPEG: below, all the scans that fit in take some milliseconds, as in records of any pack."""

# What Pillow's parsers let through on damaged input; the list comes from mutating files of every format.
_PILLOW_FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}


def decode_image(
    data: ImageBytes,
    *,
    image_hw: tuple[int, int] | None = None,
    what: str = "image",
    upright: bool = False,
    max_pixels: int = MAX_PIXELS,
    charge: Charge | None = None,
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, BMP or PNM image.

    Grey, palette and CMYK images become RGB, 16 bits become 8 by rounding, and an alpha channel is dropped, as OpenCV
    and mxnet do; of an animation the first frame counts. Where ``image_hw`` differs from the picture's size, it is
    scaled, without keeping its aspect, by Pillow's bilinear filter, whose support grows with the reduction (antialias).
    ``upright`` turns the picture as its EXIF orientation says; records of training packs are taken as they are.
    ``charge`` is told the number of pixels before they are decoded, and may refuse them by an error of its own.

    Shape: result (H, W, 3), uint8, RGB, contiguous and writable.

    Raises:
        ImageError: the data is no such image, is damaged, claims more than ``max_pixels``, or has more parts than any
            encoder makes; ``what`` opens the message.
    """
    view = memoryview(data)
    name, plugin = _recognise(view, what)
    if plugin is JpegImagePlugin.JpegImageFile:
        image = _decode_jpeg(view, what=what, max_pixels=max_pixels, charge=charge)
        exif = exif_of_jpeg(view) if upright else b""
    else:
        image, exif = _decode_by_pillow(view, name, plugin, what=what, max_pixels=max_pixels, charge=charge)
    turn = _UPRIGHT.get(orientation_of(exif)) if upright else None
    image = image if turn is None else np.ascontiguousarray(turn(image))
    return image if image_hw is None else resize_image(image, image_hw)


def read_image_file(
    path: str | Path,
    *,
    image_hw: tuple[int, int] | None = None,
    upright: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read and decode an image file; see `decode_image`.

    Raises:
        ImageError: the file is missing, unreadable, longer than `MAX_FILE_BYTES`, or no usable image.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"image file {path} does not exist; check the path")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageError(f"image file {path} has {size} bytes; at most {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"image file {path} cannot be read: {error.strerror}") from error
    return decode_image(data, image_hw=image_hw, what=f"image file {path}", upright=upright, max_pixels=max_pixels)


def resize_image(image_HWC: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale to ``image_hw`` by Pillow's antialiased bilinear filter; the same array where the size fits already.

    Shape: ``image_HWC`` (H, W, 3) uint8; result (*image_hw, 3) uint8.
    """
    if image_HWC.shape[:2] == tuple(image_hw):
        return image_HWC
    height, width = image_hw
    scaled = Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(scaled, dtype=np.uint8)


def _recognise(view: memoryview, what: str) -> tuple[str, Any]:
    """The format's name and Pillow's class for it, by the first bytes."""
    if not view.nbytes:
        raise ImageError(f"{what} cannot be decoded: it is empty")
    head = bytes(view[:12])
    if head.startswith(b"\xff\xd8"):
        return "JPEG", JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", PngImagePlugin.PngImageFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP", WebPImagePlugin.WebPImageFile
    if head.startswith(b"BM"):
        return "BMP", BmpImagePlugin.BmpImageFile
    if head[:1] == b"P" and head[1:2] in b"123456" and len(head) > 2:
        return "PNM", PpmImagePlugin.PpmImageFile
    raise ImageError(
        f"{what} cannot be decoded: it is no JPEG, PNG, WebP, BMP or PNM image (it starts with {head[:4]!r})"
    )


def _check_size(height: int, width: int, *, what: str, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{what} cannot be decoded: its header gives a size of {width} x {height}")
    if height * width > max_pixels:
        raise ImageError(f"{what} is too large: {width} x {height} pixels, at most {max_pixels} pixels are decoded")


def _decode_jpeg(view: memoryview, *, what: str, max_pixels: int, charge: Charge | None) -> NDArray[np.uint8]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(view, strict=True)
        _check_size(int(height), int(width), what=what, max_pixels=max_pixels)
        pixels = int(height) * int(width)
        if view.nbytes * pixels > _SCANS_ARE_COUNTED_FROM and has_many_scans(view):
            raise ImageError(f"{what} cannot be decoded: it has more than {MAX_SCANS} scans")
        if charge is not None:
            charge(pixels)
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(view, colorspace="RGB", fastdct=False, strict=True)
    except ValueError as error:
        reason = str(error).rpartition("(): ")[2]
        raise ImageError(f"{what} cannot be decoded: the JPEG is damaged ({reason})") from error
    return image


def _decode_by_pillow(
    view: memoryview, name: str, plugin: Any, *, what: str, max_pixels: int, charge: Charge | None
) -> tuple[NDArray[np.uint8], bytes]:
    """The picture and its EXIF data."""
    # The format's class is called directly: Image.open would warn of large sizes before ours is checked, and would
    # try formats that nobody asked for.
    try:
        if name == "WebP":
            # Pillow's WebP class allocates two canvases when it opens a file.
            _check_size(*webp_size(view), what=what, max_pixels=max_pixels)
        if name == "PNG" and has_many_chunks(view):
            raise ImageError(f"{what} cannot be decoded: it has more than {MAX_PARTS} chunks")
        with _silence.kept(), plugin(BytesIO(view)) as image:
            width, height = image.size
            _check_size(height, width, what=what, max_pixels=max_pixels)
            if charge is not None:
                charge(height * width)
            image.load()
            return _to_rgb(image), _exif_of(image)
    except _PILLOW_FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{what} cannot be decoded: the {name} is damaged ({reason})") from error


def _exif_of(image: Image.Image) -> bytes:
    """The EXIF data of an image that is loaded, which a PNG can also hold as hexadecimal text; empty without."""
    exif = image.info.get("exif", b"")
    if not exif and "Raw profile type exif" in image.info:
        try:
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
        except ValueError:
            return b""
    return exif


class _Silence:
    """Pillow warns of damaged tags and animations, of which there is nothing to say where the pixels are fine.

    `warnings.catch_warnings` alone would stay in effect for good where two threads overlap, each putting back what it
    found: here the first to come sets the filter, and the last to go removes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filter = warnings.catch_warnings(action="ignore")

    @contextmanager
    def kept(self) -> Generator[None]:
        with self._lock:
            if not self._users:
                self._filter = warnings.catch_warnings(action="ignore")
                self._filter.__enter__()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._filter.__exit__(None, None, None)


_silence = _Silence()


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        # Pillow clips 16 bits at 255 where they are meant to be scaled.
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((deep + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    # A palette with transparency would make Pillow warn that its transparency gets lost, which is intended.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"), dtype=np.uint8)
