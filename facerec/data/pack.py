"""A training pack: ``train.rec``, ``train.idx`` and ``property``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facerec.data.recordio import ImageRecord

__all__ = ["FacePack"]


class FacePack:
    """The images and labels of a training pack; picklable, safe under fork and spawn."""

    image_keys: NDArray[np.int64]
    num_images: int
    num_classes: int
    num_classes_source: str
    image_hw: tuple[int, int] | None
    layout: Literal["header", "flat"]
    fingerprint: str

    @classmethod
    def open(cls, path: Path | str, *, io: Literal["mmap", "pread"] = "mmap") -> FacePack:
        """Open a pack by its folder or its ``train.rec``."""
        raise NotImplementedError

    def read_image(self, key: int) -> ImageRecord:
        """The image record of a key; RecordError with key and offset where it is damaged or holds no image."""
        raise NotImplementedError

    def label_of(self, record: ImageRecord, *, key: int | None = None) -> int:
        """The class of a record, checked: DataError where it is no whole number in [0, num_classes)."""
        raise NotImplementedError

    def labels(self) -> NDArray[np.int64]:
        """(num_images,) the class of every image in the order of ``image_keys``."""
        raise NotImplementedError

    def multipart_records(self) -> int:
        """The number of records that are stored in several parts."""
        raise NotImplementedError
