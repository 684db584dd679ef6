"""The payload of an image record: a small header, labels, and an encoded image."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, RecordError

__all__ = ["HEADER_BYTES", "ImageRecord", "build_image_record", "parse_image_record", "unpack_image_head"]

_HEADER = struct.Struct("<IfQQ")
HEADER_BYTES = _HEADER.size
_unpack_header = _HEADER.unpack_from
unpack_image_head = struct.Struct("<IIIfQQ").unpack_from
"""Magic and length of a record that is not cut into parts, and the header of the image in it."""


class ImageRecord(NamedTuple):
    """One image record, decoded as far as its header.

    ``flag`` is the number of labels that follow the header (0: the label stands in the header itself); ``label`` is the
    first label. ``image`` is the encoded image, empty in header and identity records; it shares memory with the payload
    where that was a memoryview.
    """

    flag: int
    label: float
    vector: NDArray[np.float32] | None
    """The labels behind the header, (flag,); None where there are none."""
    record_id: int
    record_id2: int
    image: bytes | memoryview

    @property
    def labels(self) -> NDArray[np.float32]:
        """All labels, (max(flag, 1),)."""
        return np.array((self.label,), dtype=np.float32) if self.vector is None else self.vector


def parse_image_record(
    payload: bytes | memoryview, *, key: int | None = None, offset: int | None = None
) -> ImageRecord:
    """Split the payload of an image record into header, labels and encoded image.

    Raises:
        RecordError: the payload is shorter than its header says; the error carries ``key`` and ``offset``.
    """
    if len(payload) < HEADER_BYTES:
        raise _too_short(payload, HEADER_BYTES, key, offset)
    flag, label, record_id, record_id2 = _unpack_header(payload)
    if flag == 0:
        return ImageRecord(0, label, None, record_id, record_id2, payload[HEADER_BYTES:])
    start = HEADER_BYTES + 4 * flag
    if len(payload) < start:
        raise _too_short(payload, start, key, offset)
    labels = np.frombuffer(payload, dtype="<f4", count=flag, offset=HEADER_BYTES)
    return ImageRecord(flag, float(labels[0]), labels, record_id, record_id2, payload[start:])


def build_image_record(image: bytes, *, label: float | Sequence[float], record_id: int = 0) -> bytes:
    """Build the payload of an image record as mxnet's ``recordio.pack`` does.

    A number becomes the header's own label (flag 0); a sequence becomes ``flag`` float32 labels behind the header.

    Raises:
        DataError: a whole-number class label is not exact in float32 (beyond 2^24), or a sequence is empty.
    """
    if isinstance(label, int | float | np.integer | np.floating):
        if float(label).is_integer() and float(np.float32(label)) != float(label):
            raise DataError(f"class label {label} is not exact in the float32 of a record; number the classes from 0")
        return _HEADER.pack(0, label, record_id, 0) + image
    labels = np.asarray(label, dtype="<f4")
    if labels.ndim != 1 or labels.size == 0:
        raise DataError(f"the labels of a record are a number or a list of numbers, not an array of {labels.shape}")
    return _HEADER.pack(labels.size, 0.0, record_id, 0) + labels.tobytes() + image


def _too_short(payload: bytes | memoryview, needed: int, key: int | None, offset: int | None) -> RecordError:
    where = "" if key is None else f" with key {key}"
    where += "" if offset is None else f" at byte {offset}"
    return RecordError(
        f"the record{where} is damaged: its header needs {needed} bytes, but it holds {len(payload)}",
        key=key,
        offset=offset,
    )
