"""A training pack: ``train.rec``, ``train.idx`` and ``property``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facerec.data.recordio import ImageRecord, RecordReader, parse_image_record
from facerec.errors import DataError, MissingPathError, RecordError

__all__ = ["FacePack"]

_EXACT_FLOAT = 1 << 24
"""Labels are float32: larger counts are not exact."""
_PROPERTY = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?:\n\s*(\d+)\s*)?\s*")


class FacePack:
    """The images and labels of a training pack; picklable, safe under fork and spawn.

    Two layouts exist. ``header``: record 0 holds no image but [N + 1, N + 1 + C]; images are the keys 1..N and the
    keys after them are identity records without images. ``flat``: every key is an image (im2rec, RecBuilder).
    """

    reader: RecordReader
    rec_path: Path
    layout: Literal["header", "flat"]
    image_keys: NDArray[np.int64]
    """(N,) keys of the image records, ascending."""
    num_classes: int
    num_classes_source: str
    """Where the class count is known from: ``property``, ``identity records`` or ``labels``."""
    image_hw: tuple[int, int] | None
    """Height and width as ``property`` states them."""
    fingerprint: str
    """Hexadecimal digest of property, index and the size of the records; it names the data in runs."""

    @classmethod
    def open(cls, path: Path | str, *, io: Literal["mmap", "pread"] = "mmap") -> FacePack:
        """Open a pack by its folder or its ``train.rec``.

        Raises:
            MissingPathError: the folder or one of its files does not exist.
            DataError: the index or ``property`` is damaged, or they contradict each other.
            RecordError: the index belongs to another file, or the file is truncated.
        """
        pack = cls()
        pack.rec_path = _find_rec(Path(path))
        pack.reader = RecordReader(pack.rec_path, io=io)
        property_path = pack.rec_path.with_name("property")
        text = property_path.read_text(encoding="utf-8", errors="replace") if property_path.is_file() else ""
        counts = _parse_property(text, property_path) if property_path.is_file() else None
        pack._find_images()
        pack._find_classes(counts)
        content = f"{text}\n{pack.reader.index.sha256}\n{pack.reader.size}"
        pack.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        return pack

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.image_keys)

    def read_image(self, key: int) -> ImageRecord:
        """The image record of a key.

        Raises:
            RecordError: it is damaged or holds no image; names key and offset.
        """
        record = self._parse(key)
        if not len(record.image):
            raise RecordError(f"{self.describe(key)} holds no image", key=key, offset=self.reader.offset_of(key))
        return record

    def label_of(self, record: ImageRecord, *, key: int | None = None) -> int:
        """The class of a record, checked.

        Raises:
            DataError: the label is no whole number in [0, num_classes).
        """
        label = record.label
        # Written so that NaN fails too.
        if not (0 <= label < self.num_classes and label == int(label)):
            where = str(self.rec_path) if key is None else self.describe(key)
            raise DataError(
                f"{where} has label {label:g}, but the pack has {self.num_classes} identities (0 to "
                f"{self.num_classes - 1}, from {self.num_classes_source}); correct property, or write the pack again"
            )
        return int(label)

    def labels(self) -> NDArray[np.int64]:
        """The class of every image, in the order of ``image_keys``: int64 (N,); see `label_of`."""
        keys = self.image_keys.tolist()
        return np.array([self.label_of(self._parse(key), key=key) for key in keys], dtype=np.int64)

    def multipart_records(self) -> int:
        """The number of records that are stored in several parts."""
        return sum(self.reader.part_flag(offset) == 1 for offset in self.reader.offsets.tolist())

    def describe(self, key: int) -> str:
        """Where a record is, for messages."""
        return f"{self.rec_path}: record {key} at byte {self.reader.offset_of(key)}"

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def _parse(self, key: int) -> ImageRecord:
        offset = self.reader.offset_of(key)
        try:
            return parse_image_record(self.reader.read_at_offset(offset, key=key), key=key, offset=offset)
        except RecordError as error:
            if str(self.rec_path) in str(error):
                raise
            raise RecordError(f"{self.describe(key)}: {error}", key=key, offset=offset) from error

    def _find_images(self) -> None:
        keys = self.reader.keys
        first = self._parse(int(keys[0]))
        # A vector label at record 0 may also belong to an image: only a record without one is a header.
        if first.flag < 2 or len(first.image):
            self.layout, self.image_keys, self._identities = "flat", keys, 0
            return
        self.layout = "header"
        start = 1
        stop = self._first_without_image(start)
        self.image_keys, self._identities = keys[start:stop], len(keys) - stop
        told = float(first.labels[0])
        # Beyond 2^24 the header is rounded, and the index alone is right.
        if told < _EXACT_FLOAT and told != int(keys[stop - 1]) + 1:
            raise DataError(
                f"{self.rec_path}: its header record announces images up to key {told - 1:g}, the index has them up to "
                f"{int(keys[stop - 1])}; {self.reader.idx_path.name} belongs to another file or is cut off"
            )

    def _first_without_image(self, low: int) -> int:
        """The position, from ``low`` on, of the first record without an image; images come first, so bisect."""
        keys = self.reader.keys
        high = len(keys)
        while low < high:
            middle = (low + high) // 2
            if len(self._parse(int(keys[middle])).image):
                low = middle + 1
            else:
                high = middle
        return low

    def _find_classes(self, counts: tuple[int, int, int, int | None] | None) -> None:
        self.image_hw = (counts[1], counts[2]) if counts else None
        if not self.num_images:
            raise DataError(f"{self.rec_path} holds no images")
        if counts:
            self.num_classes, self.num_classes_source = counts[0], "property"
            if self._identities and self._identities != counts[0]:
                raise DataError(
                    f"{self.rec_path.with_name('property')} says {counts[0]} identities, but {self.rec_path.name} has "
                    f"{self._identities} identity records; one of them belongs to another pack"
                )
            if counts[3] is not None and counts[3] != self.num_images:
                raise DataError(
                    f"{self.rec_path.with_name('property')} says {counts[3]} images, but {self.rec_path.name} has "
                    f"{self.num_images}; one of them belongs to another pack"
                )
        elif self._identities:
            self.num_classes, self.num_classes_source = self._identities, "identity records"
        else:
            self.num_classes, self.num_classes_source = _EXACT_FLOAT, "labels"
            self.num_classes = int(self.labels().max()) + 1


def _find_rec(path: Path) -> Path:
    if path.is_dir():
        if (path / "train.rec").is_file():
            return path / "train.rec"
        raise MissingPathError(f"{path} has no train.rec; a pack is a folder with train.rec, train.idx and property")
    if path.is_file():
        return path
    raise MissingPathError(f"training data {path} does not exist; check data.root")


def _parse_property(text: str, path: Path) -> tuple[int, int, int, int | None]:
    """Classes, height, width, and the number of images where a second line tells it."""
    match = _PROPERTY.fullmatch(text)
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0", match[3].lstrip("0") or "0"):
        shown = text[:40].splitlines()[0] if text.strip() else ""
        raise DataError(
            f"{path} is damaged ('{shown}'): its first line must be classes,height,width, such as 5,112,112"
        )
    return int(match[1]), int(match[2]), int(match[3]), int(match[4]) if match[4] else None
