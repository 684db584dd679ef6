"""A training pack as whole batches of 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from facerec.config.schema import AugmentConfig
from facerec.data.augment import augment_batch
from facerec.data.decode import decode_image
from facerec.data.image_record import ImageRecord
from facerec.data.sampler import BatchRequest
from facerec.errors import DataError

__all__ = ["BadRecord", "FaceBatch", "FaceDataset", "ImagePack"]


class ImagePack(Protocol):
    """What training needs of a pack, whichever library reads the records."""

    @property
    def image_keys(self) -> NDArray[np.int64]:
        """(N,) the keys of the image records."""
        ...

    @property
    def num_images(self) -> int:
        """N."""
        ...

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        ...

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width as the pack states them."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash that changes with the data."""
        ...

    def read_image(self, key: int) -> ImageRecord:
        """The image record of a key; RecordError where it is damaged."""
        ...

    def label_of(self, record: ImageRecord, *, key: int | None = None) -> int:
        """The class of a record, checked against the number of classes."""
        ...

    def describe(self, key: int) -> str:
        """Where a record is, for messages: its key, its byte offset and its file."""
        ...


class BadRecord(NamedTuple):
    """A record that was left out."""

    key: int
    reason: str


class FaceBatch(NamedTuple):
    """One batch, and what was wrong with it."""

    images_BCHW: Tensor
    """(B, 3, H, W) uint8, RGB, a channels_last view."""
    labels_B: Tensor
    """(B,) int64."""
    keys_B: Tensor
    """(B,) int64, the records' keys."""
    bad_records: tuple[BadRecord, ...]
    """What was left out, empty as a rule."""


class FaceDataset(Dataset[FaceBatch]):
    """Reads, decodes, scales and augments whole batches; holds no state, so any process can make any batch.

    ``on_bad_record`` says what a record does that is damaged, holds no image, or has a class out of range: ``fail``
    raises its error. ``skip`` leaves it out: its row repeats the nearest good record before it in the same batch, or
    the first good one where none stands before it, with that record's label and key and with the row's own
    augmentation. Batches so keep their size, and what is repeated does not depend on workers.
    """

    def __init__(
        self,
        pack: ImagePack,
        *,
        image_hw: tuple[int, int],
        augment: AugmentConfig,
        seed: int,
        on_bad_record: Literal["fail", "skip"] = "fail",
    ) -> None:
        self._pack = pack
        self._image_hw = image_hw
        self._augment = augment
        self._seed = seed
        self._on_bad_record = on_bad_record

    def __len__(self) -> int:
        return self._pack.num_images

    def __getitems__(self, request: BatchRequest) -> FaceBatch:
        """Make one batch.

        Raises:
            RecordError: a record is damaged, and ``on_bad_record`` is ``fail``.
            ImageError: an image is damaged, likewise.
            DataError: a class is out of range, likewise; or no record of the batch is good.
        """
        keys = self._pack.image_keys[request.indices]
        images = np.empty((len(keys), *self._image_hw, 3), dtype=np.uint8)
        labels = np.empty(len(keys), dtype=np.int64)
        bad: dict[int, BadRecord] = {}
        for row, key in enumerate(keys.tolist()):
            try:
                images[row], labels[row] = self._read(key)
            except DataError as error:
                if self._on_bad_record == "fail":
                    raise
                bad[row] = BadRecord(key, str(error))
        if bad:
            sources = _substitutes(list(bad.values()), rows=list(bad), batch_size=len(keys))
            images, labels, keys = images[sources], labels[sources], keys[sources]
        augment_batch(images, self._augment, seed=self._seed, epoch=request.epoch, indices=request.indices)
        return FaceBatch(
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            torch.from_numpy(keys),
            tuple(bad.values()),
        )

    def _read(self, key: int) -> tuple[NDArray[np.uint8], int]:
        record = self._pack.read_image(key)
        label = self._pack.label_of(record, key=key)
        return decode_image(record.image, image_hw=self._image_hw, what=self._pack.describe(key)), label


def _substitutes(bad: Sequence[BadRecord], *, rows: Sequence[int], batch_size: int) -> NDArray[np.int64]:
    """For every row the row that fills it: itself, or see `FaceDataset`."""
    if len(rows) == batch_size:
        raise DataError(f"no record of a batch of {batch_size} can be used; the first: {bad[0].reason}")
    sources = np.arange(batch_size, dtype=np.int64)
    sources[list(rows)] = -1
    first_good = sources[sources >= 0][0]
    return np.maximum(np.maximum.accumulate(sources), first_good)
