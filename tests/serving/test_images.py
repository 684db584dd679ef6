"""Pictures from strangers are decoded within limits, or refused in one sentence that holds nothing of them."""

from __future__ import annotations

import base64
import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from facerec.data.decode import decode_image
from facerec.errors import ImageError
from facerec.serving.images import Budget, Limits, decode_text
from tests.serving.models import SIDE, face, text_of

HW = (SIDE, SIDE)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG that claims ``side`` x ``side`` pixels in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(8_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def many_scans(count: int, *, side: int = 2048) -> bytes:
    """A grey JPEG whose last scan stands there ``count`` times: 18 bytes that go over the whole picture."""
    jpeg = save(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    first = jpeg.index(b"\xff\xda")
    second = jpeg.index(b"\xff\xda", first + 2)
    third = jpeg.index(b"\xff\xc4", second)
    # All coefficients but the first, in all their bits, so that one more such scan contradicts none before.
    scan = jpeg[second : second + 7] + b"\x01\x3f\x00" + jpeg[second + 10 : third]
    return jpeg[:second] + scan * count + b"\xff\xd9"


def many_chunks(count: int) -> bytes:
    """A picture with ``count`` chunks that hold nothing."""
    png = face(3)
    empty = bytes(4) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    after_header = 8 + 25
    return png[:after_header] + empty * count + png[after_header:]


def large_webp(number: int, *, side: int = 2048) -> bytes:
    """A picture of one colour, another for each of 100 numbers: some hundred bytes, slow to decode for its size."""
    return save(Image.new("RGB", (side, side), (number, number, 128)), "WEBP", lossless=True, method=0)


def decode(data: bytes, **limits: int) -> np.ndarray:
    return decode_text(text_of(data), image_hw=HW, what="the picture", limits=Limits(**limits))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_decode_as_evaluation_decodes_them(kind: str) -> None:
    data = save(Image.open(io.BytesIO(face(3))), kind)
    np.testing.assert_array_equal(decode(data), decode_image(data, image_hw=HW))


def test_line_ends_blanks_and_data_urls_are_passed_over() -> None:
    text = text_of(face(3))
    expected = decode_text(text, image_hw=HW, what="x")
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n"
    for variant in (wrapped, f" {text} ", f"data:image/png;base64,{text}"):
        np.testing.assert_array_equal(decode_text(variant, image_hw=HW, what="x"), expected)


def test_a_picture_is_turned_upright_once() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(Image.fromarray(np.ascontiguousarray(np.rot90(pixels))), "PNG", exif=exif)
    upright = decode_text(text_of(turned), image_hw=(20, 40), what="x")
    np.testing.assert_array_equal(upright, pixels)


def test_grey_cmyk_and_16_bit_pictures_become_rgb() -> None:
    grey = Image.fromarray(np.full(HW, 100, np.uint8))
    np.testing.assert_array_equal(decode(save(grey, "PNG")), np.full((*HW, 3), 100))
    deep = Image.fromarray(np.full(HW, 100 * 257, np.uint16))
    np.testing.assert_array_equal(decode(save(deep, "PNG")), np.full((*HW, 3), 100))
    cmyk = save(Image.new("CMYK", HW, (0, 0, 0, 155)), "JPEG", quality=95)
    assert np.abs(decode(cmyk).astype(int) - 100).max() <= 3


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GIF89a" + bytes(50), "the picture is no JPEG, PNG or WebP image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the picture is no JPEG, PNG or WebP image"),
        (b"BM" + bytes(60), "the picture is no JPEG, PNG or WebP image"),
        (face(1)[:120], "the picture cannot be decoded: the PNG is damaged"),
        (simplejpeg.encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8))[:-40], "the picture cannot be decoded"),
        (bomb(), "the picture is too large: 20000 x 20000 pixels"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X", "the picture cannot be decoded: the WebP is damaged"),
        (many_scans(101), "the picture cannot be decoded: it has more than 100 scans"),
        (many_chunks(10_001), "the picture cannot be decoded: it has more than 10000 chunks"),
    ],
)
def test_what_is_no_usable_picture_is_refused_in_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert "(" not in str(caught.value), "the words of a decoder can quote the picture"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "is missing"),
        ("", "is missing"),
        (5, "is missing"),
        ("!!!", "no valid base64 text"),
        ("abc", "no valid base64 text"),
        ("ü" * 8, "no valid base64 text"),
        ("data:image/png;base64,", "is empty"),
        ("  ", "is empty"),
    ],
)
def test_a_text_that_is_no_base64_is_refused(text: object, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        decode_text(text, image_hw=HW, what="the picture")


def test_long_texts_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ImageError, match="at most 100 bytes"):
        decode(bytes(200), image_bytes=100)
    text = "A" * 4_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="at most 100 bytes"):
            decode_text(text, image_hw=HW, what="x", limits=Limits(image_bytes=100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    # Just under the limit of the text, over that of the bytes.
    with pytest.raises(ImageError, match="at most 100 bytes"):
        decode(bytes(110), image_bytes=100)


def test_a_bomb_takes_no_memory() -> None:
    text = base64.b64encode(bomb()).decode()
    assert len(text) < 16_000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            decode_text(text, image_hw=HW, what="x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_pictures_of_as_many_parts_as_allowed_are_decoded() -> None:
    # The first scan, of the mean values, comes on top.
    assert decode(many_scans(99)).shape == (*HW, 3)
    np.testing.assert_array_equal(decode(many_chunks(9000)), decode(face(3)))


@pytest.mark.parametrize("data", [many_scans(400_000), many_chunks(600_000)], ids=["scans", "chunks"])
def test_parts_without_number_take_no_time(data: bytes) -> None:
    text = text_of(data)
    start = time.process_time()
    with pytest.raises(ImageError, match="more than"):
        decode_text(text, image_hw=HW, what="x")
    assert time.process_time() - start < 1.0


def test_the_pictures_of_a_request_share_its_pixels() -> None:
    limits = Limits(total_pixels=3 * SIDE * SIDE)
    budget = Budget(limits)
    for picture in range(3):
        decode_text(text_of(face(picture)), image_hw=HW, what="x", limits=limits, budget=budget)
    with pytest.raises(ImageError, match=r"x is beyond the 3072 pixels that a request may have together"):
        decode_text(text_of(face(4)), image_hw=HW, what="x", limits=limits, budget=budget)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_are_counted_before_they_are_decoded(kind: str) -> None:
    # Of pictures that break off only the header is whole; they cost their time all the same.
    data = save(Image.open(io.BytesIO(face(3, side=64))), kind, quality=100)
    broken = text_of(data[: len(data) - 40])
    budget = Budget(Limits(total_pixels=64 * 64))
    for sentence in ("cannot be decoded", "is beyond"):
        with pytest.raises(ImageError, match=sentence):
            decode_text(broken, image_hw=HW, what="x", budget=budget)
