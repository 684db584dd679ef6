"""A training pack: ``train.rec``, ``train.idx`` and ``property``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.data.orders import Groups, group_by
from facerec.data.pack_layout import (
    EXACT_FLOAT,
    Property,
    are_classes,
    find_layout,
    find_rec,
    owners_of_images,
    read_property,
)
from facerec.data.record_batch import HEAD_WORDS, first_labels
from facerec.data.record_parts import FIRST, LENGTH_MASK
from facerec.data.record_writer import LENGTH_BITS, MAGIC
from facerec.data.recordio import ImageRecord, RecordReader
from facerec.errors import DataError, RecordError

__all__ = ["FacePack", "Faces"]

_CHUNK = 1 << 18
"""Records whose headers are looked at together."""


class Faces(NamedTuple):
    """Encoded images and their classes."""

    images: list[bytes | memoryview]
    """(B) encoded images."""
    classes: NDArray[np.int64]
    """(B,) in [0, num_classes); 0 where an error stands in the way."""


class FacePack:
    """The images and labels of a training pack; picklable, safe under fork and spawn.

    Two layouts exist. ``header``: record 0 holds no image but [N + 1, N + 1 + C]; images are the keys 1..N and the
    keys after them are identity records without images. ``flat``: every key is an image (im2rec, RecBuilder).
    """

    reader: RecordReader
    rec_path: Path
    layout: Literal["header", "flat"]
    num_images: int
    """N, the number of images."""
    num_classes: int
    num_classes_source: str
    """Where the class count is known from: ``property``, ``identity records`` or ``labels``."""
    image_hw: tuple[int, int] | None
    """Height and width as ``property`` states them."""
    _images: slice
    """The positions of the images in the index."""
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
        pack.rec_path = find_rec(Path(path))
        pack.reader = RecordReader(pack.rec_path, io=io)
        told = read_property(pack.rec_path.with_name("property"))
        layout = find_layout(pack.reader)
        pack.layout = layout.kind
        pack._images = slice(layout.start, layout.stop)
        pack.num_images = layout.stop - layout.start
        pack.image_hw = told.image_hw if told else None
        pack._find_classes(told, layout.num_identities)
        content = f"{told.text if told else ''}\n{pack.reader.index.sha256}\n{pack.reader.size}"
        pack.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        return pack

    @property
    def image_keys(self) -> NDArray[np.int64]:
        """(N,) keys of the image records, ascending; `keys_at` gives some of them without making all."""
        return self.reader.keys[self._images]

    def keys_at(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The keys of some images, by their places in [0, N)."""
        return self.reader.index.keys_at(places + self._images.start)

    def read_image(self, key: int) -> ImageRecord:
        """The image record of a key.

        Raises:
            RecordError: it is damaged or holds no image; names key and offset.
        """
        record = self.reader.read_image(key)
        if not record.image:
            raise self._no_image(key)
        return record

    def read_faces(self, keys: NDArray[np.int64], *, faults: dict[int, DataError] | None = None) -> Faces:
        """Images and classes of many keys.

        Where ``faults`` is given, it gets the error of every record that cannot be used, by row.

        Raises:
            DataError: where ``faults`` is not given: a record is damaged, holds no image, or has a label that is no
                class.
        """
        self.reader.announce(keys)
        broken: dict[int, RecordError] | None = None if faults is None else {}
        batch = self.reader.read_batch(keys, faults=broken)
        labels = batch.labels
        is_class = are_classes(labels, num_classes=self.num_classes)
        found: dict[int, DataError] = dict(broken or {})
        for row in np.flatnonzero(~is_class).tolist():
            found.setdefault(row, self._no_class(float(labels[row]), int(keys[row])))
        for row, image in enumerate(batch.images):
            if not image:
                found.setdefault(row, self._no_image(int(keys[row])))
        if found and faults is None:
            raise found[min(found)]
        if faults is not None:
            faults |= found
        return Faces(batch.images, np.where(is_class, labels, 0).astype(np.int64))

    def label_of(self, record: ImageRecord, *, key: int | None = None) -> int:
        """The class of a record, checked.

        Raises:
            DataError: the label is no whole number in [0, num_classes).
        """
        label = record.label
        if not are_classes(np.array(label), num_classes=self.num_classes):
            raise self._no_class(label, key)
        return int(label)

    def _no_class(self, label: float, key: int | None) -> DataError:
        where = str(self.rec_path) if key is None else self.describe(key)
        return DataError(
            f"{where} has label {label:g}, but the pack has {self.num_classes} identities (0 to "
            f"{self.num_classes - 1}, from {self.num_classes_source}); correct property, or write the pack again"
        )

    def _no_image(self, key: int) -> RecordError:
        return RecordError(f"{self.describe(key)} holds no image", key=key, offset=self.reader.offset_of(key))

    def labels(self) -> NDArray[np.int64]:
        """The class of every image, in the order of ``image_keys``: int64 (N,); see `label_of`.

        Raises:
            RecordError: a record is damaged.
            DataError: a label is no whole number in [0, num_classes).
        """
        labels, is_plain = self._plain_labels()
        for place in np.flatnonzero(~is_plain).tolist():
            key = self.reader.index.key_at(self._images.start + place)
            labels[place] = self.label_of(self.reader.read_image(key), key=key)
        return labels

    def multipart_records(self) -> int:
        """The number of records that are stored in several parts."""
        count = 0
        for begin in range(0, len(self.reader), _CHUNK):
            words = self.reader.first_words(self.reader.offsets[begin : begin + _CHUNK], 2)
            count += int(((words[:, 0] == MAGIC) & (words[:, 1] >> LENGTH_BITS == FIRST)).sum())
        return count

    def describe(self, key: int) -> str:
        """Where a record is, for messages."""
        return f"{self.rec_path}: record {key} at byte {self.reader.offset_of(key)}"

    def name_of(self, key: int) -> str:
        """A short name of a record."""
        return str(key)

    def groups(self) -> Groups:
        """The pictures of each identity, from the identity records where the pack has them, else from all labels.

        Raises:
            DataError: an identity record or a label is damaged.
        """
        has_identities = self.layout == "header" and self._images.stop < len(self.reader)
        # Identity records give keys as float32, which larger packs round.
        if not has_identities or len(self.reader) >= EXACT_FLOAT:
            return group_by(self.labels())
        return group_by(owners_of_images(self.reader, images=self._images))

    def _plain_labels(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The labels, taken from the headers many at a time, and which of them are beyond doubt."""
        offsets = self.reader.offsets[self._images]
        labels = np.zeros(len(offsets), dtype=np.int64)
        is_plain = np.zeros(len(offsets), dtype=bool)
        for begin in range(0, len(offsets), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            words = self.reader.first_words(offsets[chunk], HEAD_WORDS)
            values = first_labels(words)
            needed = 24 + 4 * words[:, 2].astype(np.int64)
            plain = (words[:, 0] == MAGIC) & (words[:, 1] >= needed) & (words[:, 1] <= LENGTH_MASK)
            plain &= are_classes(values, num_classes=self.num_classes)
            labels[chunk][plain] = values[plain]
            is_plain[chunk] = plain
        return labels, is_plain

    def _find_classes(self, told: Property | None, num_identities: int) -> None:
        if not self.num_images:
            raise DataError(f"{self.rec_path} holds no images")
        if told is None:
            self._count_classes(num_identities)
            return
        self.num_classes, self.num_classes_source = told.num_classes, "property"
        found = ((num_identities, told.num_classes, "identities"), (self.num_images, told.num_images, "images"))
        for number, expected, what in found:
            if number and expected is not None and number != expected:
                raise DataError(
                    f"{self.rec_path.with_name('property')} says {expected} {what}, but {self.rec_path.name} has "
                    f"{number}; one of them belongs to another pack"
                )

    def _count_classes(self, num_identities: int) -> None:
        if num_identities:
            self.num_classes, self.num_classes_source = num_identities, "identity records"
            return
        self.num_classes, self.num_classes_source = EXACT_FLOAT, "labels"
        labels, is_plain = self._plain_labels()
        for place in np.flatnonzero(~is_plain).tolist():
            key = self.reader.index.key_at(self._images.start + place)
            try:
                labels[place] = self.label_of(self.reader.read_image(key), key=key)
            except RecordError:
                continue  # Reported when it is read; one damaged record does not make the pack useless.
        self.num_classes = int(labels.max()) + 1
