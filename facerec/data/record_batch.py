"""Many image records at once: their headers are looked at together, and their images are not copied."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import HEADER_BYTES as IMAGE_HEADER_BYTES
from facerec.data.image_record import ImageRecord
from facerec.data.record_parts import HEADER_BYTES, LENGTH_MASK
from facerec.data.record_writer import MAGIC

__all__ = ["HEAD_WORDS", "ImageBatch", "PlainHeads", "first_labels", "plain_heads"]

HEAD_WORDS = 9
"""Magic, flag and length; number of labels, label, two words for each of two ids; the first of several labels."""


class PlainHeads(NamedTuple):
    """What the headers of records say, where they are beyond doubt."""

    is_plain: NDArray[np.bool_]
    """(B,) whether the record is whole, ends where the next one starts, and has an image header that fits."""
    begins: NDArray[np.int64]
    """(B,) where the encoded image begins in the file; without meaning for other records, like all that follows."""
    stops: NDArray[np.int64]
    """(B,) where it ends."""
    flags: NDArray[np.int64]
    """(B,) see `ImageRecord`."""
    labels: NDArray[np.float32]
    """(B,)."""
    record_ids: NDArray[np.uint64]
    """(B, 2)."""

    @classmethod
    def none(cls, count: int) -> Self:
        """Nothing is known of ``count`` records."""
        zeros = np.zeros(count, dtype=np.int64)
        labels, ids = np.zeros(count, dtype=np.float32), np.zeros((count, 2), dtype=np.uint64)
        return cls(np.zeros(count, dtype=bool), zeros, zeros, zeros.copy(), labels, ids)


class ImageBatch(NamedTuple):
    """Image records, their headers unpacked."""

    images: list[bytes | memoryview]
    """(B) the encoded images, parts of the mapped file where that is mapped."""
    labels: NDArray[np.float32]
    """(B,) the first label of each."""
    flags: NDArray[np.int64]
    """(B,) the number of labels behind the header, 0 where the label stands in it."""
    record_ids: NDArray[np.uint64]
    """(B, 2)."""

    @classmethod
    def of(cls, heads: PlainHeads) -> Self:
        """A batch that has its headers and no images yet."""
        return cls([], heads.labels, heads.flags, heads.record_ids)

    def append(self, row: int, record: ImageRecord) -> None:
        """Add the next record, which was read on its own."""
        self.images.append(record.image)
        self.labels[row], self.flags[row] = record.label, record.flag
        self.record_ids[row] = (record.record_id, record.record_id2)


def first_labels(head: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The class of each record: the label in the header, or the first of those behind it.

    Shape: ``head`` (B, `HEAD_WORDS`), the first words of the records; result (B,).
    """
    return np.where(head[:, 2] == 0, head[:, 3], head[:, 8]).view(np.float32)


def plain_heads(
    words: NDArray[np.uint32], offsets: NDArray[np.int64], following: NDArray[np.int64], *, is_known: NDArray[np.bool_]
) -> PlainHeads:
    """Check and unpack the headers of records that have nothing unusual.

    ``words`` is the file; ``offsets`` and ``following`` say where each record and the next one start; what is not
    ``is_known`` is left out.
    """
    starts = offsets >> 2
    # The last word of the record: behind its end it must be zero.
    tails = (following >> 2) - 1
    inside = is_known & ((offsets | following) & 3 == 0) & (tails < len(words)) & (starts + HEAD_WORDS <= tails + 1)
    starts = np.where(inside, starts, 0)
    if len(words) < HEAD_WORDS:
        return PlainHeads.none(len(offsets))
    head = words[starts[:, None] + np.arange(HEAD_WORDS)]
    length = head[:, 1].astype(np.int64)
    flags = head[:, 2].astype(np.int64)
    stops = offsets + HEADER_BYTES + length
    begins = offsets + HEADER_BYTES + IMAGE_HEADER_BYTES + 4 * flags
    used_bits = (8 * (length & 3)).astype(np.uint32)
    rest = np.where(used_bits > 0, words[np.where(inside, tails, 0)] >> used_bits, np.uint32(0))
    is_plain = inside & (head[:, 0] == MAGIC) & (length <= LENGTH_MASK) & (rest == 0)
    is_plain &= (begins <= stops) & (stops <= following) & (following - 4 < stops)
    labels = first_labels(head)
    record_ids = np.ascontiguousarray(head[:, 4:8]).view(np.uint64)
    return PlainHeads(is_plain, begins, stops, flags, labels, record_ids)
