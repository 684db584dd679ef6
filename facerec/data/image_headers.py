"""What the bytes of a picture say before it is decoded: its size, how many parts it has, which way up it is.

Asked the decoders, such questions can cost more than any picture. libjpeg goes over the whole picture for every scan,
and a scan takes 18 bytes; Pillow goes through segments and chunks in Python; and its reader of EXIF copies what an
entry points to, for each of 65,535 entries.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

__all__ = ["MAX_PARTS", "MAX_SCANS", "exif_of_jpeg", "has_many_chunks", "has_many_scans", "orientation_of", "webp_size"]

MAX_SCANS = 100
"""Scans of a JPEG that are decoded; encoders make about ten."""
MAX_PARTS = 10_000
"""Segments of a JPEG or chunks of a PNG that are looked at; a PNG of 8 MB from libpng has a thousand."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""What ends the data of a scan: zeros and restarts stand within it."""
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8)
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Of TIFF's types, as `struct` writes them."""


def webp_size(view: memoryview) -> tuple[int, int]:
    """Height and width as the first chunk says (RFC 9649, sections 2.5 to 2.7).

    Raises:
        ValueError: the header is cut off, or no WebP's.
    """
    head = bytes(view[:30])
    if len(head) < 30:
        raise ValueError("cut off in its header")
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", head[26:30]))
    else:
        raise ValueError(f"unknown first chunk {kind!r}")
    return height, width


def has_many_scans(view: memoryview) -> bool:
    """Whether a JPEG has more than `MAX_SCANS` scans, or `MAX_PARTS` segments before these are counted."""
    jpeg = bytes(view)
    # Counting bytes is fast, and right unless a thumbnail, a profile or a film behind the picture holds them too.
    if jpeg.count(b"\xff\xda") <= MAX_SCANS:
        return False
    markers = [marker for marker, _, _ in _segments(memoryview(jpeg))]
    return markers.count(_START_OF_SCAN) > MAX_SCANS or len(markers) == MAX_PARTS


def has_many_chunks(view: memoryview) -> bool:
    """Whether a PNG has more than `MAX_PARTS` chunks."""
    place = 8
    for _ in range(MAX_PARTS + 1):
        if place + 8 > view.nbytes or view[place + 4 : place + 8] == b"IEND":
            return False
        place += 12 + int.from_bytes(view[place : place + 4], "big")
    return True


def exif_of_jpeg(view: memoryview) -> bytes:
    """The EXIF data in front of a JPEG's picture; empty where there is none."""
    for marker, start, end in _segments(view):
        if marker == _START_OF_SCAN:
            break
        if marker == _APP1 and view[start : start + len(_EXIF)] == _EXIF:
            return bytes(view[start:end])
    return b""


def orientation_of(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none or the data is damaged.

    Source: TIFF 6.0, section 2; Exif 2.32, section 4.6.4.
    """
    tiff = exif.removeprefix(_EXIF)
    order = _BYTE_ORDERS.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for place in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, place)
            if tag == _ORIENTATION and count == 1:
                (value,) = struct.unpack_from(f"{order}{_WHOLE_NUMBERS[kind]}", tiff, place + 8)
                return value if 1 <= value <= 8 else 1
    except (struct.error, KeyError):
        return 1
    return 1


def _segments(jpeg: memoryview) -> Iterator[tuple[int, int, int]]:
    """Marker, and beginning and end of the content, of each segment up to the end of the image; at most `MAX_PARTS`."""
    place = 2
    for _ in range(MAX_PARTS):
        found = _MARKER.search(jpeg, place)
        if found is None or (marker := jpeg[found.end() - 1]) == _END_OF_IMAGE:
            return
        place = start = found.end()
        if marker not in _WITHOUT_LENGTH:
            place = start + max(2, int.from_bytes(jpeg[start : start + 2], "big"))
            start += 2
        yield marker, start, place
