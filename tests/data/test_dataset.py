"""Whole batches from a pack: pixels, labels, scaling, and what happens to damaged records."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from facerec.config.schema import AugmentConfig, FlipConfig, GreyConfig
from facerec.data.augment import augment_batch
from facerec.data.dataset import FaceDataset
from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.recordio import RecordWriter, build_image_record
from facerec.data.sampler import BatchRequest
from facerec.errors import DataError, ImageError

SIDE = 16
OFF = AugmentConfig(flip=FlipConfig(p=0.0))
RANDOM = AugmentConfig(flip=FlipConfig(p=0.5), grey=GreyConfig(p=0.5))


def picture(key: int) -> bytes:
    pixels = np.random.default_rng(key).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality=95)


def write_pack(folder: Path, damaged: tuple[int, ...] = (), labels: dict[int, float] | None = None) -> FacePack:
    """Eight images of two identities; ``damaged`` ones are cut off."""
    folder.mkdir(exist_ok=True)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        writer.write(0, build_image_record(b"", label=[9, 11]))
        for key in range(1, 9):
            image = picture(key)[:-40] if key in damaged else picture(key)
            label = (labels or {}).get(key, (key - 1) // 4)
            writer.write(key, build_image_record(image, label=label))
        writer.write(9, build_image_record(b"", label=[1, 5]))
        writer.write(10, build_image_record(b"", label=[5, 9]))
    (folder / "property").write_text(f"2,{SIDE},{SIDE}\n")
    return FacePack.open(folder)


def dataset(pack: FacePack, augment: AugmentConfig = OFF, **settings: object) -> FaceDataset:
    return FaceDataset(pack, **{"image_hw": (SIDE, SIDE), "augment": augment, "seed": 1, **settings})


def request(*indices: int, epoch: int = 0) -> BatchRequest:
    return BatchRequest(epoch, np.array(indices, dtype=np.int64))


@pytest.fixture
def pack(tmp_path) -> FacePack:
    return write_pack(tmp_path / "pack")


def test_a_batch_holds_the_decoded_pictures_with_their_labels_and_keys(pack):
    batch = dataset(pack).__getitems__(request(3, 0, 7))
    assert batch.images_BCHW.shape == (3, 3, SIDE, SIDE)
    assert batch.images_BCHW.dtype == torch.uint8
    assert batch.images_BCHW.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([decode_image(picture(key)) for key in (4, 1, 8)])
    np.testing.assert_array_equal(batch.images_BCHW.permute(0, 2, 3, 1).numpy(), expected)
    assert batch.keys_B.tolist() == [4, 1, 8]
    assert batch.labels_B.tolist() == [0, 0, 1]
    assert batch.bad_records == ()


def test_pictures_are_scaled_to_the_configured_size(pack):
    batch = dataset(pack, image_hw=(8, 24)).__getitems__(request(2))
    assert batch.images_BCHW.shape == (1, 3, 8, 24)
    expected = decode_image(picture(3), image_hw=(8, 24))
    np.testing.assert_array_equal(batch.images_BCHW[0].permute(1, 2, 0).numpy(), expected)


def test_augmentation_depends_on_seed_epoch_and_index_alone(pack):
    made = dataset(pack, RANDOM)
    whole = made.__getitems__(request(*range(8), epoch=2))
    part = made.__getitems__(request(6, 1, epoch=2))
    assert torch.equal(part.images_BCHW, whole.images_BCHW[[6, 1]])
    again = made.__getitems__(request(*range(8), epoch=3))
    assert not torch.equal(again.images_BCHW, whole.images_BCHW)
    expected = np.stack([decode_image(picture(key)) for key in range(1, 9)])
    augment_batch(expected, RANDOM, seed=1, epoch=2, indices=np.arange(8))
    np.testing.assert_array_equal(whole.images_BCHW.permute(0, 2, 3, 1).numpy(), expected)


def test_a_dataset_travels_to_another_process(pack):
    copy = pickle.loads(pickle.dumps(dataset(pack)))
    assert len(copy) == 8
    expected = dataset(pack).__getitems__(request(5))
    assert torch.equal(copy.__getitems__(request(5)).images_BCHW, expected.images_BCHW)


def test_a_damaged_image_is_named_by_key_offset_and_file(tmp_path):
    pack = write_pack(tmp_path / "pack", damaged=(6,))
    offsets = dict(map(int, line.split("\t")) for line in (tmp_path / "pack/train.idx").read_text().splitlines())
    with pytest.raises(ImageError) as caught:
        dataset(pack).__getitems__(request(0, 5))
    message = str(caught.value)
    assert "record 6 " in message
    assert f"byte {offsets[6]} " in message
    assert str(tmp_path / "pack/train.rec") in message
    assert "the JPEG is damaged" in message
    assert "\n" not in message


def test_a_class_out_of_range_is_an_error_that_names_the_record(tmp_path):
    pack = write_pack(tmp_path / "pack", labels={3: 2})
    with pytest.raises(DataError, match=r"\b3\b"):
        dataset(pack).__getitems__(request(2))


def test_a_skipped_record_repeats_the_good_one_before_it(tmp_path):
    pack = write_pack(tmp_path / "pack", damaged=(2, 3, 6))
    batch = dataset(pack, on_bad_record="skip").__getitems__(request(0, 1, 2, 4, 5, 7))
    assert batch.keys_B.tolist() == [1, 1, 1, 5, 5, 8]
    assert batch.labels_B.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(batch.images_BCHW[2], batch.images_BCHW[0])
    assert torch.equal(batch.images_BCHW[4], batch.images_BCHW[3])
    assert [bad.key for bad in batch.bad_records] == [2, 3, 6]
    assert all(f"record {bad.key} " in bad.reason for bad in batch.bad_records)


def test_a_skipped_record_in_front_repeats_the_first_good_one(tmp_path):
    pack = write_pack(tmp_path / "pack", damaged=(1, 2))
    batch = dataset(pack, on_bad_record="skip").__getitems__(request(0, 1, 3, 4))
    assert batch.keys_B.tolist() == [4, 4, 4, 5]


def test_a_repeated_picture_is_augmented_by_its_own_row(tmp_path):
    pack = write_pack(tmp_path / "pack", damaged=tuple(range(2, 9)))
    batch = dataset(pack, RANDOM, on_bad_record="skip").__getitems__(request(*range(8)))
    expected = np.stack([decode_image(picture(1))] * 8)
    augment_batch(expected, RANDOM, seed=1, epoch=0, indices=np.arange(8))
    np.testing.assert_array_equal(batch.images_BCHW.permute(0, 2, 3, 1).numpy(), expected)


def test_skipping_covers_classes_out_of_range(tmp_path):
    pack = write_pack(tmp_path / "pack", labels={3: 2})
    batch = dataset(pack, on_bad_record="skip").__getitems__(request(1, 2))
    assert batch.keys_B.tolist() == [2, 2]
    assert [bad.key for bad in batch.bad_records] == [3]


def test_a_batch_without_any_good_record_is_an_error(tmp_path):
    pack = write_pack(tmp_path / "pack", damaged=(1, 2))
    with pytest.raises(DataError, match=r"no record of a batch of 2 can be used; the first: .*record 1 "):
        dataset(pack, on_bad_record="skip").__getitems__(request(0, 1))
