"""A training pack as whole batches of 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from facerec.config.schema import AugmentConfig
from facerec.data.augment import augment_batch
from facerec.data.decode import decode_image
from facerec.data.orders import Groups
from facerec.data.pack import Faces
from facerec.data.sampler import BatchRequest
from facerec.errors import DataError

__all__ = ["BadRecord", "FaceBatch", "FaceDataset", "ImagePack"]

_INT64_BYTES = 8


class ImagePack(Protocol):
    """What training needs of a pack, whichever library reads the records."""

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

    def keys_at(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The keys of the images at places in [0, N)."""
        ...

    def read_faces(self, keys: NDArray[np.int64], *, faults: dict[int, DataError] | None = None) -> Faces:
        """Images and classes of keys; ``faults`` gets the errors by row, which are raised where it is not given."""
        ...

    def describe(self, key: int) -> str:
        """Where a record is, for messages: its key, its byte offset and its file."""
        ...

    def name_of(self, key: int) -> str:
        """A short name of a record, for lists."""
        ...

    def groups(self) -> Groups:
        """The places of each identity's images."""
        ...


class BadRecord(NamedTuple):
    """A record that was left out."""

    key: int
    reason: str


class FaceBatch(NamedTuple):
    """One batch in one block of memory, and what was wrong with it.

    A worker makes the block where the trainer can see it, and hands over its address: one piece, no copy.
    """

    block: Tensor
    """uint8: labels and keys as int64 of this machine, then the images."""
    size: int
    """B."""
    height: int
    width: int
    bad_records: Sequence[BadRecord]
    """What was left out, empty as a rule."""

    @classmethod
    def empty(cls, size: int, image_hw: tuple[int, int]) -> FaceBatch:
        """Memory for a batch, shared where a worker of a loader makes it."""
        height, width = image_hw
        num_bytes = 2 * size * _INT64_BYTES + size * height * width * 3
        if get_worker_info() is None:
            block = torch.empty(num_bytes, dtype=torch.uint8)
        else:
            # torch.share_memory_() would copy what is not written yet.
            block = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(num_bytes))
        return cls(block, size, height, width, ())

    @property
    def images_BCHW(self) -> Tensor:
        """(B, 3, H, W) uint8, RGB, a channels_last view."""
        pixels = self.block[2 * self.size * _INT64_BYTES :]
        return pixels.view(self.size, self.height, self.width, 3).permute(0, 3, 1, 2)

    @property
    def labels_B(self) -> Tensor:
        """(B,) int64."""
        return self.block[: self.size * _INT64_BYTES].view(torch.int64)

    @property
    def keys_B(self) -> Tensor:
        """(B,) int64, the records' keys."""
        return self.block[self.size * _INT64_BYTES : 2 * self.size * _INT64_BYTES].view(torch.int64)


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
        keys = self._pack.keys_at(request.indices)
        faults: dict[int, DataError] | None = {} if self._on_bad_record == "skip" else None
        faces = self._pack.read_faces(keys, faults=faults)
        batch = FaceBatch.empty(len(keys), self._image_hw)
        images = batch.images_BCHW.permute(0, 2, 3, 1).numpy()
        for row, (key, image) in enumerate(zip(keys.tolist(), faces.images, strict=True)):
            if faults and row in faults:
                continue
            try:
                images[row] = decode_image(image, image_hw=self._image_hw, what=self._pack.describe(key))
            except DataError as error:
                if faults is None:
                    raise
                faults[row] = error
        bad = [BadRecord(int(keys[row]), str(error)) for row, error in sorted((faults or {}).items())]
        labels = faces.classes
        if faults:
            sources = _substitutes(bad, rows=sorted(faults), batch_size=len(keys))
            images[:], labels, keys = images[sources], labels[sources], keys[sources]
        counters = request.indices if request.counters is None else request.counters
        augment_batch(images, self._augment, seed=self._seed, epoch=request.epoch, indices=counters)
        batch.labels_B.numpy()[:] = labels
        batch.keys_B.numpy()[:] = keys
        return batch._replace(bad_records=tuple(bad))


def _substitutes(bad: Sequence[BadRecord], *, rows: Sequence[int], batch_size: int) -> NDArray[np.int64]:
    """For every row the row that fills it: itself, or see `FaceDataset`."""
    if len(rows) == batch_size:
        raise DataError(f"no record of a batch of {batch_size} can be used; the first: {bad[0].reason}")
    sources = np.arange(batch_size, dtype=np.int64)
    sources[list(rows)] = -1
    first_good = sources[sources >= 0][0]
    return np.maximum(np.maximum.accumulate(sources), first_good)
