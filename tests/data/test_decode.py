"""Images of every format become RGB; damaged and oversized ones become one sentence."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facerec.data.decode import MAX_PIXELS, decode_image, read_image_file, resize_image
from facerec.data.recordio import RecordReader, parse_image_record
from facerec.errors import ImageError

HEIGHT, WIDTH = 24, 32


def picture() -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows * 10, columns * 7, (rows + columns) * 4], axis=-1).astype(np.uint8)


def encode(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


LOSSLESS = {
    "png": encode(Image.fromarray(picture()), "PNG"),
    "webp": encode(Image.fromarray(picture()), "WEBP", lossless=True),
    "bmp": encode(Image.fromarray(picture()), "BMP"),
    "ppm": encode(Image.fromarray(picture()), "PPM"),
}
JPEG = simplejpeg.encode_jpeg(picture(), quality=95, colorsubsampling="444")
EVERY_FORMAT = {**LOSSLESS, "jpeg": JPEG, "webp_lossy": encode(Image.fromarray(picture()), "WEBP", quality=95)}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_exact_pixels(name):
    image = decode_image(LOSSLESS[name])
    np.testing.assert_array_equal(image, picture())
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_every_format_reads_from_a_memoryview(name):
    data = EVERY_FORMAT[name]
    np.testing.assert_array_equal(decode_image(memoryview(b"x" + data)[1:]), decode_image(data))


def test_a_jpeg_decodes_to_rgb_as_pillow_decodes_it():
    expected = np.asarray(Image.open(BytesIO(JPEG)).convert("RGB"))
    assert np.abs(decode_image(JPEG).astype(int) - expected).max() <= 1
    assert np.abs(decode_image(JPEG).astype(int) - picture()).mean() < 3


def test_the_decoder_agrees_with_mxnet_byte_for_byte(shared_data):
    folder = shared_data / "mxnet/multipart"
    expected = json.loads((folder / "train_expected.json").read_text())["decoded_rgb_sha256"]
    with RecordReader(folder / "train.rec") as reader:
        for key, digest in expected.items():
            image = decode_image(parse_image_record(reader.read(int(key))).image)
            assert hashlib.sha256(image.tobytes()).hexdigest() == digest


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    source = Image.fromarray(picture()).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    data = encode(source, "JPEG", quality=100) if kind == "TIFF" else encode(source, "PNG")
    expected = np.asarray(source.convert("RGB")).astype(int)
    image = decode_image(data)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - expected).mean() < (3 if mode == "CMYK" else 1e-9)


def test_a_grey_jpeg_has_three_equal_channels():
    grey = np.ascontiguousarray(picture()[:, :, :1])
    image = decode_image(simplejpeg.encode_jpeg(grey, colorspace="GRAY", colorsubsampling="Gray", quality=95))
    assert image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(image[:, :, 0], image[:, :, 1])
    assert np.abs(image[:, :, 0].astype(int) - grey[:, :, 0]).mean() < 3


def test_alpha_is_dropped_and_not_blended():
    rgba = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgba), "PNG")), picture())


def test_a_palette_with_transparency_gives_its_colours_without_a_warning():
    source = Image.fromarray(picture()).quantize(16)
    expected = np.asarray(source.convert("RGB"))
    data = encode(source, "PNG", transparency=bytes(range(16)))
    np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind):
    deep = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    if kind == "PNG":
        data = encode(Image.fromarray(deep), "PNG")
    else:
        data = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.astype(">u2").tobytes()
    expected = np.rint(deep / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(data), np.repeat(expected[:, :, None], 3, axis=2))


def test_pgm_is_read():
    grey = picture()[:, :, 0]
    data = b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + grey.tobytes()
    np.testing.assert_array_equal(decode_image(data), np.repeat(grey[:, :, None], 3, axis=2))


def test_another_size_is_scaled_by_the_antialiased_bilinear_filter():
    image = decode_image(LOSSLESS["png"], image_hw=(12, 8))
    expected = np.asarray(Image.fromarray(picture()).resize((8, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(image, expected)
    checkerboard = np.indices((64, 64)).sum(0) % 2 * 255
    board = np.repeat(checkerboard[:, :, None], 3, axis=2).astype(np.uint8)
    small = resize_image(board, (16, 16))
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127.5).max() < 5, "aliasing would keep black and white"


def test_the_right_size_is_left_alone():
    image = picture()
    assert resize_image(image, (HEIGHT, WIDTH)) is image


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


def _jpeg_claiming(side: int) -> bytes:
    data = bytearray(JPEG)
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def _webp_claiming(side: int) -> bytes:
    data = bytearray(EVERY_FORMAT["webp_lossy"])
    data[26:30] = struct.pack("<HH", side, side)
    return bytes(data)


def _extended_webp_claiming(side: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _lossless_webp_claiming(side: int) -> bytes:
    data = bytearray(LOSSLESS["webp"])
    data[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    return bytes(data)


def _bmp_claiming(side: int) -> bytes:
    data = bytearray(LOSSLESS["bmp"])
    data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        _jpeg_claiming(20_000),
        _png_claiming(20_000, 20_000),
        _webp_claiming(16_383),
        _extended_webp_claiming(20_000),
        _lossless_webp_claiming(16_384),
        _bmp_claiming(20_000),
        b"P6 20000 20000 255\n",
    ],
    ids=["jpeg", "png", "webp", "webp-extended", "webp-lossless", "bmp", "ppm"],
)
def test_a_large_claim_is_refused_before_memory_is_taken(data):
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"record 7 is too large: \d+ x \d+ pixels, at most 67108864"):
            decode_image(data, what="record 7")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_can_be_lowered():
    assert decode_image(JPEG, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageError, match="too large"):
        decode_image(JPEG, max_pixels=HEIGHT * WIDTH - 1)
    assert MAX_PIXELS == 8192 * 8192


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_a_cut_off_image_is_an_error(name):
    data = EVERY_FORMAT[name]
    for length in (2, 13, 29, len(data) // 2, len(data) - 40):
        with pytest.raises(ImageError, match=r"^key 5 cannot be decoded: "):
            decode_image(data[:length], what="key 5")


def test_corrupt_jpeg_data_is_an_error_and_not_grey_pixels():
    data = bytearray(JPEG)
    data[len(data) // 2 : len(data) // 2 + 20] = b"\xff\xd8" * 10
    with pytest.raises(ImageError, match="the JPEG is damaged"):
        decode_image(bytes(data))


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a" + bytes(20), b"\x80\x04cos\nsystem\n.", b"P"])
def test_other_data_is_refused_with_a_sentence(data):
    with pytest.raises(ImageError, match=r"cannot be decoded: it is (empty|no JPEG, PNG, WebP, BMP or PNM image)"):
        decode_image(data)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(EVERY_FORMAT)), edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)))
)
def test_mutated_files_decode_or_raise_an_image_error(name, edits):
    data = bytearray(EVERY_FORMAT[name])
    for place, content in edits:
        data[place : place + len(content)] = content
    message, image = "", np.zeros((1, 1, 3), np.uint8)
    try:
        image = decode_image(bytes(data), max_pixels=1 << 20)
    except ImageError as error:
        message = str(error)
    assert "\n" not in message
    assert image.ndim == 3
    assert image.dtype == np.uint8


def _tagged(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(Image.fromarray(picture()), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_is_turned_upright_as_pillow_turns_it(tmp_path, kind, orientation):
    from PIL import ImageOps

    path = tmp_path / "photo"
    path.write_bytes(_tagged(kind, orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    image = read_image_file(path)
    assert image.flags.c_contiguous
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert read_image_file(path, upright=False).shape == (HEIGHT, WIDTH, 3)


def test_records_of_packs_are_not_turned():
    np.testing.assert_array_equal(decode_image(_tagged("PNG", 6)), picture())


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_senseless_orientation_counts_as_upright(orientation):
    np.testing.assert_array_equal(decode_image(_tagged("PNG", orientation), upright=True), picture())


def test_a_damaged_exif_block_counts_as_upright_without_a_warning():
    whole = _tagged("JPEG", 6)
    damaged = whole.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01", b"\x01\x12\x00\x03\x7f\xff\xff\xff")
    assert damaged != whole
    assert decode_image(damaged, upright=True).shape == (HEIGHT, WIDTH, 3)
    assert decode_image(whole, upright=True).shape == (WIDTH, HEIGHT, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"image file .*nowhere\.jpg does not exist"):
        read_image_file(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="does not exist"):
        read_image_file(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(JPEG[:-50])
    with pytest.raises(ImageError, match=r"image file .*cut\.jpg cannot be decoded: the JPEG is damaged"):
        read_image_file(path)


def test_an_endless_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("facerec.data.decode.MAX_FILE_BYTES", 10)
    path = tmp_path / "long.png"
    path.write_bytes(LOSSLESS["png"])
    with pytest.raises(ImageError, match="at most 10 are read"):
        read_image_file(path)
