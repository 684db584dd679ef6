"""Training on `data.reader: mxnet` sees what training on our reader sees."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facerec.config.load import config_from_dict
from facerec.data.loader import build_train_loader
from facerec.data.mxnet_reader import MxnetPack
from facerec.data.pack import FacePack

_AUGMENT = {"flip": {"p": 0.5}, "color_jitter": {"p": 0.5}, "random_crop": {"p": 0.3}, "jpeg_quality": {"p": 0.3}}


def batches(folder: Path, reader: str, *, workers: int, batch_size: int, count: int) -> list[tuple[Any, Any, Any]]:
    config = config_from_dict(
        {
            "data": {
                "root": str(folder),
                "reader": reader,
                "batch_size": batch_size,
                "num_workers": workers,
                "augment": _AUGMENT,
            }
        }
    )
    loader = build_train_loader(config)
    try:
        return [
            (batch.images_BCHW.numpy(), batch.labels_B.numpy(), batch.keys_B.tolist())
            for epoch in range(2)
            for batch in islice(loader.epoch(epoch), count)
        ]
    finally:
        loader.close()


@pytest.mark.parametrize(("name", "batch_size", "count"), [("small", 4, 5), ("veclabel", 4, 5), ("lfw", 128, 10)])
def test_batches_are_equal_bit_for_bit(
    mxnet: Any, shared_data: Path, tmp_path: Path, name: str, batch_size: int, count: int
) -> None:
    source = shared_data / name if name == "lfw" else shared_data / "mxnet" / name
    folder = Path(shutil.copytree(source, tmp_path / name))
    ours = batches(folder, "native", workers=0, batch_size=batch_size, count=count)
    theirs = batches(folder, "mxnet", workers=2, batch_size=batch_size, count=count)
    assert len(ours) == len(theirs) > 0
    for (images, labels, keys), (other_images, other_labels, other_keys) in zip(ours, theirs, strict=True):
        assert keys == other_keys
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(images, other_images)


def test_records_of_the_two_packs_are_equal(mxnet: Any, shared_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared_data / "lfw", tmp_path / "lfw"))
    native = FacePack.open(folder)
    pack = MxnetPack(native)
    for key in native.image_keys.tolist()[::7]:
        one, other = pack.read_image(key), native.read_image(key)
        assert bytes(one.image) == bytes(other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert pack.label_of(one, key=key) == native.label_of(other, key=key)
