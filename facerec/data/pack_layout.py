"""Which records of a training pack are images, and what ``property`` says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.data.recordio import RecordReader
from facerec.errors import DataError, MissingPathError, RecordError

__all__ = [
    "EXACT_FLOAT",
    "Layout",
    "Property",
    "are_classes",
    "find_layout",
    "find_rec",
    "owners_of_images",
    "read_property",
]

EXACT_FLOAT = 1 << 24
"""Labels are float32: larger counts are not exact."""

_PROPERTY = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*(?:\n\s*(\d{1,12})\s*)?", re.ASCII)
_PROPERTY_BYTES = 4096


class Property(NamedTuple):
    """The content of ``property``."""

    text: str
    num_classes: int
    image_hw: tuple[int, int]
    num_images: int | None
    """Where a second line tells it."""


class Layout(NamedTuple):
    """Which positions of the index are images."""

    kind: Literal["header", "flat"]
    start: int
    stop: int
    num_identities: int
    """The number of identity records, which follow the images."""


def find_rec(path: Path) -> Path:
    """The ``.rec`` of a pack that is named by its folder or by its ``.rec``.

    Raises:
        MissingPathError: there is none.
    """
    if path.is_dir():
        if (path / "train.rec").is_file():
            return path / "train.rec"
        raise MissingPathError(f"{path} has no train.rec; a pack is a folder with train.rec, train.idx and property")
    if path.is_file():
        return path
    raise MissingPathError(f"training data {path} does not exist; check data.root, or make a pack with `facerec data`")


def read_property(path: Path) -> Property | None:
    """Read ``property``; None where there is no such file.

    Raises:
        DataError: its first line is not ``classes,height,width``, or what follows is not the number of images.
        MissingPathError: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as stream:
            text = stream.read(_PROPERTY_BYTES + 1).decode("utf-8", "replace")
    except OSError as error:
        raise MissingPathError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    match = _PROPERTY.fullmatch(text)
    if match is None or not all(int(match[number]) for number in (1, 2, 3)):
        shown = text.strip().partition("\n")[0][:40]
        raise DataError(
            f"{path} is damaged ('{shown}'): its first line must be classes,height,width, such as 5,112,112, and a "
            "second one may hold the number of images"
        )
    height_width = (int(match[2]), int(match[3]))
    return Property(text, int(match[1]), height_width, int(match[4]) if match[4] else None)


def find_layout(reader: RecordReader) -> Layout:
    """Find the images.

    Raises:
        RecordError: the first record is damaged, and the last one is no image.
        DataError: the header record contradicts the index.
    """
    flat = Layout("flat", 0, len(reader), 0)
    try:
        header = reader.read_image(reader.index.first_key)
    except RecordError:
        if _holds_image(reader, len(reader) - 1):
            return flat
        raise
    # A vector label at record 0 may also belong to an image: only a record without one is a header.
    if header.flag < 2 or len(header.image):
        return flat
    told_end, told_total = float(header.labels[0]), float(header.labels[1])
    # Beyond 2^24 the header is rounded, and the index alone is right; a short index proves any such header wrong.
    is_exact = len(reader) < EXACT_FLOAT or max(told_end, told_total) < EXACT_FLOAT
    stop = reader.index.num_keys_below(told_end) if is_exact else _first_without_image(reader)
    if is_exact:
        _check_header(reader, told_end, told_total, stop)
    return Layout("header", 1, stop, len(reader) - stop)


def are_classes(labels: NDArray[np.floating[Any]], *, num_classes: int | None) -> NDArray[np.bool_]:
    """Which labels are whole numbers in [0, num_classes), or from 0 on where that is not known; NaN is none.

    Shape: any; the result has the same.
    """
    with np.errstate(invalid="ignore"):
        return (
            (labels >= 0) & (labels < (np.inf if num_classes is None else num_classes)) & (labels == np.floor(labels))
        )


def owners_of_images(reader: RecordReader, *, images: slice) -> NDArray[np.int64]:
    """Which identity record names each image; int64, (images,).

    Raises:
        RecordError: an identity record is damaged, or an image is in none of them, or in two.
    """
    owners = np.full(images.stop - images.start, -1, dtype=np.int64)
    first_key = reader.index.key_at(images.start)
    for identity, row in enumerate(range(images.stop, len(reader))):
        key = reader.index.key_at(row)
        labels = reader.read_image(key).labels
        begin, end = (float(labels[0]) - first_key, float(labels[1]) - first_key) if len(labels) > 1 else (-1.0, -1.0)
        is_range = 0 <= begin <= end <= len(owners)
        if not is_range or (owners[int(begin) : int(end)] >= 0).any():
            raise RecordError(
                f"{reader.rec_path}: identity record {key} does not name a range of images of its own",
                key=key,
                offset=reader.offset_of(key),
            )
        owners[int(begin) : int(end)] = identity
    if (owners < 0).any():
        key = reader.index.key_at(images.start + int(np.flatnonzero(owners < 0)[0]))
        raise RecordError(
            f"{reader.rec_path}: image {key} is in no identity record", key=key, offset=reader.offset_of(key)
        )
    return owners


def _check_header(reader: RecordReader, told_end: float, told_total: float, stop: int) -> None:
    advice = f"{reader.idx_path.name} belongs to another file or is cut off"
    num_images, num_identities = stop - 1, len(reader) - stop
    if not told_end == stop == reader.index.key_at(stop - 1) + 1:
        raise DataError(
            f"{reader.rec_path}: its header record announces images with the keys 1 to {told_end - 1:g}, the index has "
            f"{num_images} of them; {advice}"
        )
    if num_identities and told_total - told_end != num_identities:
        raise DataError(
            f"{reader.rec_path}: its header record announces {told_total - told_end:g} identities, the index has "
            f"{num_identities} records behind those of the images; {advice}"
        )
    # A damaged record gives None, and is reported when it is read.
    last_holds_image = num_images > 0 and _holds_image(reader, stop - 1)
    if (num_images and last_holds_image is False) or (num_identities and _holds_image(reader, stop)):
        raise DataError(
            f"{reader.rec_path}: its header record announces images up to key {told_end - 1:g}, but they end elsewhere;"
            f" {advice}"
        )


def _holds_image(reader: RecordReader, position: int) -> bool | None:
    """Whether the record at a position has an image; None where it is damaged."""
    try:
        return len(reader.read_image(reader.index.key_at(position)).image) > 0
    except RecordError:
        return None


def _first_without_image(reader: RecordReader) -> int:
    """The position of the first record behind the header that has no image; images come first, so bisect."""
    low, high = 1, len(reader)
    while low < high:
        middle = (low + high) // 2
        probe = middle
        while (holds_image := _holds_image(reader, probe)) is None and probe + 1 < high:
            probe += 1
        if holds_image is False:
            high = middle
        else:
            low = probe + 1
    return low
