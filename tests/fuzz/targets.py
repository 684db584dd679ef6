"""What is fuzzed: a function of bytes for each entrance, which raises only where a promise is broken.

Refusals in a sentence of ours are what damaged input should get; everything else, and every answer that contradicts
itself, is a finding.
"""

from __future__ import annotations

import base64
import functools
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from facerec.data.image_record import ImageRecord
from facerec.data.pairs import read_pairs
from facerec.data.recordio import RecordReader
from facerec.errors import DataError, ImageError, MissingPathError, PairSetError, RecordError
from facerec.serving.images import decode_text

__all__ = ["TARGETS", "fuzz_images", "fuzz_pairs", "fuzz_records", "join_records"]

_MAX_KEYS = 32
_IMAGE_HW = (16, 16)
_PNG = b"\x89PNG\r\n\x1a\n"


@functools.cache
def _folder() -> Path:
    """A folder in memory where there is one: every input becomes a file."""
    place = Path("/dev/shm")
    kept = tempfile.TemporaryDirectory(prefix="facerec-fuzz-", dir=place if place.is_dir() else None)
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _check(what: str, *, holds: bool) -> None:
    if not holds:
        raise AssertionError(what)


def join_records(idx: bytes, rec: bytes) -> bytes:
    """An input of `fuzz_records`: the length of the index, the index, and the records."""
    return struct.pack("<H", len(idx)) + idx + rec


def fuzz_records(data: bytes) -> None:
    """Read every record of a pack one by one, and all at once, by both ways of reading: they must agree."""
    size = int.from_bytes(data[:2], "little")
    idx, rec = data[2 : 2 + size], data[2 + size :]
    rec_path = _folder() / "train.rec"
    rec_path.write_bytes(rec)
    rec_path.with_suffix(".idx").write_bytes(idx)
    mapped, read = _read_all(rec_path, io="mmap"), _read_all(rec_path, io="pread")
    _check("the two ways of reading agree", holds=mapped == read)
    for payload in mapped.values():
        _check("a payload is no longer than the file", holds=payload is None or len(payload) <= len(rec))


def _read_all(rec_path: Path, *, io: Literal["mmap", "pread"]) -> dict[int, bytes | None]:
    try:
        reader = RecordReader(rec_path, io=io)
    except (DataError, MissingPathError):
        return {}
    with reader:
        keys = reader.keys[:_MAX_KEYS]
        payloads = {key: _or_none(reader, key) for key in keys.tolist()}
        faults: dict[int, RecordError] = {}
        batch = reader.read_batch(keys, faults=faults)
        for row, key in enumerate(keys.tolist()):
            record = _image_or_none(reader, key)
            _check("a batch and a single reading fail alike", holds=(record is None) == (row in faults))
            if record is None:
                _check("an error names its record", holds=faults[row].key == key)
                continue
            image, payload = bytes(record.image), payloads[key]
            _check("an image is a part of its payload", holds=payload is not None and payload.endswith(image))
            _check("a batch and a single reading agree", holds=bytes(batch.images[row]) == image)
        del batch
    return payloads


def _or_none(reader: RecordReader, key: int) -> bytes | None:
    try:
        return reader.read(key)
    except RecordError as error:
        _check("an error names its record", holds=error.key == key)
        return None


def _image_or_none(reader: RecordReader, key: int) -> ImageRecord | None:
    try:
        return reader.read_image(key)
    except RecordError:
        return None


def fuzz_pairs(data: bytes) -> None:
    """Read a pair set: what is accepted has two images for each truth value, and no more bytes than the file."""
    path = _folder() / "set.bin"
    path.write_bytes(data)
    try:
        pairs = read_pairs(path)
    except PairSetError as error:
        _check("a message does not repeat the file", holds=len(str(error)) < 1000)
        return
    _check("there are two images for each pair", holds=len(pairs.images) == 2 * len(pairs.issame))
    _check("truth values are bool", holds=pairs.issame.dtype == np.bool_)
    _check("images are bytes", holds=all(isinstance(image, bytes) and image for image in pairs.images))
    # Images that are one object are stored once.
    distinct = {id(image): len(image) for image in pairs.images}
    _check("images have no more bytes than the file", holds=sum(distinct.values()) <= 2 * len(data))


def fuzz_images(data: bytes) -> None:
    """Decode a picture as a server does; the first byte says how the rest is given.

    0 means base64, 1 the text itself, 2 base64 of a PNG whose checksums are put right, so that damage gets past them.
    """
    kind, rest = (data[0] % 3 if data else 0), data[1:]
    if kind == 2:
        rest = _with_right_checksums(rest)
    text = rest.decode("latin1") if kind == 1 else base64.b64encode(rest).decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pixels = decode_text(text, image_hw=_IMAGE_HW, what="the picture")
        except ImageError as error:
            said = str(error)
            _check(said, holds=said.startswith("the picture ") and len(said) < 120 and said.isascii())
            return
    _check("pixels are 8-bit RGB", holds=pixels.shape == (*_IMAGE_HW, 3) and pixels.dtype == np.uint8)


def _with_right_checksums(png: bytes) -> bytes:
    if not png.startswith(_PNG):
        return png
    pieces, place = [_PNG], len(_PNG)
    while place + 12 <= len(png):
        size = int.from_bytes(png[place : place + 4], "big")
        body = png[place + 4 : place + 8 + size]
        pieces += [png[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + size
    return b"".join(pieces) + png[place:]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "records": fuzz_records,
    "pairs": fuzz_pairs,
    "images": fuzz_images,
}
