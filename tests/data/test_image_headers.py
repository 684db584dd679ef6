"""What is read of a picture before it is decoded, against Pillow and against what is made to mislead it."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from facerec.data.decode import decode_image
from facerec.data.image_headers import MAX_SCANS, exif_of_jpeg, has_many_scans, orientation_of
from facerec.errors import ImageError

PIXELS = np.arange(9 * 12 * 3, dtype=np.uint8).reshape(9, 12, 3)
SHORT, LONG, ASCII = 3, 4, 2


def tiff(*entries: tuple[int, int, int], order: str = "<", count: int | None = None, values: int = 1) -> bytes:
    """EXIF data of entries of tag, type and value."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    body = struct.pack(f"{order}H", len(entries) if count is None else count)
    for tag, kind, value in entries:
        packed = struct.pack(f"{order}HH", value, 0) if kind == SHORT else struct.pack(f"{order}I", value)
        body += struct.pack(f"{order}HHI", tag, kind, values) + packed
    return head + body


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    jpeg = simplejpeg.encode_jpeg(PIXELS, quality=95)
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(extra: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    png = stream.getvalue()
    return png[:33] + extra + png[33:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker whose name does not fit into an entry"
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream)).convert("RGB"))
    upright = decode_image(stream.getvalue(), upright=True)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (b"", 1),
        (b"Exif\0\0", 1),
        (b"Exif\0\0" + tiff((0x0112, SHORT, 6)), 6),
        (tiff((0x0112, SHORT, 6)), 6),
        (tiff((0x0100, LONG, 5), (0x0112, SHORT, 8), order=">"), 8),
        (tiff((0x0112, LONG, 3), order=">"), 3),
        (tiff((0x0112, SHORT, 9)), 1),
        (tiff((0x0112, SHORT, 0)), 1),
        (tiff((0x0112, ASCII, 6)), 1),
        (tiff((0x0112, SHORT, 6), values=2), 1),
        (tiff((0x0112, SHORT, 6), values=0), 1),
        (tiff((0x0100, LONG, 5), count=60_000), 1),
        (tiff((0x0112, SHORT, 6))[:12], 1),
        (b"II*\0\xff\xff\xff\xff", 1),
        (b"no TIFF at all", 1),
    ],
)
def test_damaged_orientations_are_upright(exif: bytes, orientation: int) -> None:
    assert orientation_of(exif) == orientation


def test_the_orientation_that_older_programs_wrote_as_text_counts() -> None:
    data = b"Exif\0\0" + tiff((0x0112, SHORT, 6))
    text = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(data), data.hex().encode())
    assert decode_image(png_with(chunk(b"tEXt", text)), upright=True).shape == (12, 9, 3)
    broken = text.replace(b"45", b"zz")
    assert decode_image(png_with(chunk(b"tEXt", broken)), upright=True).shape == (9, 12, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_entries_that_share_their_data_take_no_memory(kind: str) -> None:
    # Each of 2,000 entries says that its 60,000 bytes stand at the same place: 120 MB if they are copied.
    entries = b"".join(struct.pack("<HHII", 0x9000 + number, 7, 60_000, 100) for number in range(2000))
    exif = b"II*\0" + struct.pack("<IH", 8, 2000) + entries
    exif += bytes(64_000 - len(exif))
    data = jpeg_with(segment(0xE1, b"Exif\0\0" + exif)) if kind == "JPEG" else png_with(chunk(b"eXIf", exif))
    tracemalloc.start()
    try:
        assert decode_image(data, upright=True).shape == PIXELS.shape
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_the_first_exif_segment_in_front_of_the_picture_counts() -> None:
    exif, other = b"Exif\0\0" + tiff((0x0112, SHORT, 6)), b"Exif\0\0" + tiff((0x0112, SHORT, 3))
    comments = [segment(0xFE, b"\xff\xe1 is no marker here"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0")]
    assert (
        exif_of_jpeg(memoryview(jpeg_with(*comments, b"\xff\xff", segment(0xE1, exif), segment(0xE1, other)))) == exif
    )
    jpeg = jpeg_with()
    assert exif_of_jpeg(memoryview(jpeg + segment(0xE1, exif))) == b""
    assert exif_of_jpeg(memoryview(jpeg[:3])) == b""


def test_segments_without_number_are_not_gone_through() -> None:
    exif = b"Exif\0\0" + tiff((0x0112, SHORT, 6))
    assert exif_of_jpeg(memoryview(jpeg_with(segment(0xFE, b"") * 20_000, segment(0xE1, exif)))) == b""
    assert exif_of_jpeg(memoryview(jpeg_with(b"\xff" * 1_000_000, segment(0xE1, exif)))) == exif


def test_bytes_that_only_look_like_scans_are_none() -> None:
    fake = segment(0xFE, b"\xff\xda" * (MAX_SCANS + 1))
    film = random.Random(0).randbytes(10_000) + b"\xff\xda" * (MAX_SCANS + 1)
    jpeg = jpeg_with(fake) + film
    assert not has_many_scans(memoryview(jpeg))
    assert decode_image(jpeg).shape == PIXELS.shape


def test_an_end_within_a_segment_hides_no_scan() -> None:
    jpeg = jpeg_with(segment(0xFE, b"\xff\xd9"))
    scan = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\xff\x00\xff\xd0\x00"
    assert not has_many_scans(memoryview(jpeg[:-2] + scan * (MAX_SCANS - 1)))
    assert has_many_scans(memoryview(jpeg[:-2] + scan * MAX_SCANS))
    assert has_many_scans(memoryview(jpeg[:-2] + b"\xff\xff".join([scan] * MAX_SCANS)))


def test_many_small_segments_before_the_scans_are_not_gone_through() -> None:
    scans = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") * (MAX_SCANS + 1)
    assert has_many_scans(memoryview(jpeg_with(segment(0xFE, b"") * 20_000, scans)))


def test_a_png_without_end_is_damaged_and_not_endless() -> None:
    with pytest.raises(ImageError, match="the PNG is damaged"):
        decode_image(png_with(b"")[:40])
