"""Good inputs to begin with, all drawn or written here; none shows a person."""

from __future__ import annotations

import io
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from facerec.data.image_record import build_image_record
from facerec.data.recordio import RecordWriter
from tests.fuzz.targets import join_records

__all__ = ["seeds_of"]

_MAGIC = struct.pack("<I", 0xCED7230A)
_EXIF_ORIENTATION = 0x0112


def seeds_of(target: str) -> list[bytes]:
    """The seeds of a target."""
    return {"records": _records, "pairs": _pairs, "images": _images}[target]()


def _records() -> list[bytes]:
    image = b"\xff\xd8 a picture"
    plain = [build_image_record(b"", label=[4, 6])]
    plain += [build_image_record(image + bytes(number), label=float(number % 2)) for number in range(3)]
    plain += [build_image_record(b"", label=[1, 3]), build_image_record(b"", label=[3, 4])]
    parts = [b"", _MAGIC, _MAGIC * 2, b"abcd" + _MAGIC, b"abc" + _MAGIC + b"d", _MAGIC + b"ab", bytes(5)]
    vectors = [build_image_record(image, label=[float(number), 1.0]) for number in range(3)]
    good = [_pack(plain), _pack(parts), _pack(vectors), _pack(plain, step=3), _pack(plain, is_reversed=True)]
    return [*good, good[0][:-7], good[1][:-3], join_records(b"", b""), join_records(b"1\t0\n", b"")]


def _pack(payloads: list[bytes], *, step: int = 1, is_reversed: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rec = Path(folder) / "train.rec"
        with RecordWriter(rec) as writer:
            for number, payload in enumerate(payloads):
                writer.write(step * (len(payloads) - number if is_reversed else number), payload)
        return join_records(rec.with_suffix(".idx").read_bytes(), rec.read_bytes())


def _pairs() -> list[bytes]:
    images = [bytes([number]) * (number + 1) for number in range(4)]
    arrays = [np.frombuffer(image, dtype=np.uint8) for image in images]
    columns = [array.reshape(-1, 1) for array in arrays]
    contents = [
        (images, [True, False]),
        [images, [1, 0]],
        (images, None, [False, True]),
        (arrays, [np.bool_(True), np.bool_(False)]),
        (columns, np.array([True, False])),
        ([images[0]] * 4, [True, True]),
        (images, [True]),
        ([b""] * 2, [True]),
    ]
    return [pickle.dumps(content, protocol=protocol) for content in contents for protocol in (0, 2, 4, 5)]


def _images() -> list[bytes]:
    pixels = np.arange(9 * 12 * 3, dtype=np.uint8).reshape(9, 12, 3)
    colour = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[_EXIF_ORIENTATION] = 6
    kinds = ("RGB", "L", "P", "CMYK", "LA", "RGBA", "1", "I;16")
    encoded = [_encode(colour, kind, exif=turned) for kind in ("JPEG", "PNG", "WEBP")]
    encoded += [_encode(colour.convert(mode), "PNG") for mode in kinds if mode not in ("CMYK", "I;16")]
    encoded += [_encode(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG")]
    encoded += [_encode(colour.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    encoded += [_encode(colour, "JPEG", progressive=True), _encode(colour, "WEBP", lossless=True)]
    encoded += [_encode(colour.convert("RGBA"), "WEBP"), _encode(colour, "GIF"), _encode(colour, "BMP")]
    encoded += [_encode(colour.convert("P"), "PNG", transparency=0)]
    frames = [colour, colour.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    encoded += [_encode(colour, kind, save_all=True, append_images=frames) for kind in ("PNG", "WEBP")]
    seeds = [bytes([0]) + data for data in encoded]
    seeds += [bytes([2]) + data for data in encoded if data.startswith(b"\x89PNG")]
    return [*seeds, b"\x01data:image/png;base64,iVBORw0KGgo=", b"\x01 /9j/ \n", b"\x01", b""]


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
