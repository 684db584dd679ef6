"""The same pack, its records read by mxnet: for comparing the two readers."""

from __future__ import annotations

import importlib
import os
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.data.image_record import ImageRecord
from facerec.data.orders import Groups
from facerec.data.pack import FacePack, Faces
from facerec.errors import ConfigError, DataError, RecordError

__all__ = ["MxnetPack", "import_mxnet"]


def import_mxnet() -> Any:
    """Import mxnet 1.9.1.

    Raises:
        ConfigError: it is not installed, or not importable beside the installed numpy.
    """
    if "bool" not in np.__dict__:
        # mxnet 1.9.1 uses the alias np.bool, which numpy 1.24 removed (apache/mxnet#21165).
        np.__dict__["bool"] = bool
    try:
        return importlib.import_module("mxnet")
    except (ImportError, AttributeError, OSError) as error:
        raise ConfigError(
            f"data.reader: mxnet cannot be imported ({error}); install the extra 'mxnet' "
            "in an environment of its own, or set data.reader: native"
        ) from error


class MxnetPack:
    """A `FacePack` whose image records come from ``mxnet.recordio``; keys, classes and checks are the pack's own."""

    def __init__(self, pack: FacePack) -> None:
        import_mxnet()
        self._pack = pack
        self._opened: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_pack": self._pack, "_opened": None}

    @property
    def image_keys(self) -> NDArray[np.int64]:
        """(N,) the keys of the image records."""
        return self._pack.image_keys

    @property
    def num_images(self) -> int:
        """N."""
        return self._pack.num_images

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return self._pack.num_classes

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width as the pack states them."""
        return self._pack.image_hw

    @property
    def fingerprint(self) -> str:
        """A hash that changes with the data."""
        return self._pack.fingerprint

    def keys_at(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The keys of some images, by their places in [0, N)."""
        return self._pack.keys_at(places)

    def describe(self, key: int) -> str:
        """Where a record is, for messages."""
        return self._pack.describe(key)

    def name_of(self, key: int) -> str:
        """A short name of a record."""
        return self._pack.name_of(key)

    def groups(self) -> Groups:
        """The pictures of each identity."""
        return self._pack.groups()

    def label_of(self, record: ImageRecord, *, key: int | None = None) -> int:
        """The class of a record, checked against the number of classes."""
        return self._pack.label_of(record, key=key)

    def read_faces(self, keys: NDArray[np.int64], *, faults: dict[int, DataError] | None = None) -> Faces:
        """Images and classes of many keys, record by record; see `FacePack.read_faces`."""
        images: list[bytes | memoryview] = []
        classes = np.zeros(len(keys), dtype=np.int64)
        for row, key in enumerate(keys.tolist()):
            image: bytes | memoryview = b""
            try:
                record = self.read_image(key)
                image, classes[row] = record.image, self.label_of(record, key=key)
            except DataError as error:
                if faults is None:
                    raise
                faults[row] = error
            images.append(image)
        return Faces(images, classes)

    def read_image(self, key: int) -> ImageRecord:
        """Read a record by ``mxnet.recordio``.

        Raises:
            RecordError: mxnet finds no such key, or cannot read the record.
        """
        mxnet = import_mxnet()
        try:
            header, image = mxnet.recordio.unpack(self._reader(mxnet).read_idx(key))
        except (KeyError, TypeError, ValueError, struct.error, mxnet.base.MXNetError) as error:
            raise RecordError(f"{self.describe(key)} cannot be read by mxnet: {error}", key=key) from error
        labels = np.atleast_1d(np.asarray(header.label, dtype=np.float32))
        return ImageRecord(header.flag, float(labels[0]), labels if header.flag else None, header.id, header.id2, image)

    def _reader(self, mxnet: Any) -> Any:
        """The reader of this process: mxnet's keeps a position in the file, which a fork would share."""
        if self._opened is None or self._opened[0] != os.getpid():
            rec_path = self._pack.rec_path
            reader = mxnet.recordio.MXIndexedRecordIO(str(rec_path.with_suffix(".idx")), str(rec_path), "r")
            self._opened = (os.getpid(), reader)
        return self._opened[1]
