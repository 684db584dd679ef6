"""Several packs as one: places, classes, messages, batches and resumption."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from facerec.config import Config, config_from_dict
from facerec.data.dataset import FaceDataset
from facerec.data.loader import build_train_loader, open_pack
from facerec.data.orders import BalancedOrder, WeightedOrder
from facerec.data.pack import FacePack
from facerec.data.sources import JoinedPacks
from facerec.errors import ConfigError, DataError, RecordError
from tests.packs import write_pack

AUGMENT = {"flip": {"p": 0.5}, "erasing": {"p": 0.5}}


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write_pack(tmp_path / "one", identities=3, pictures=4),
        write_pack(tmp_path / "two", identities=5, pictures=2),
    )


def configure(roots: tuple[Path, ...], **data: object) -> Config:
    section = {"root": [str(root) for root in roots], "batch_size": 4, "num_workers": 0, "img_size": 32, **data}
    return config_from_dict({"data": {"augment": AUGMENT, **section}})


def damage(root: Path, key: int) -> int:
    """Spoil the magic of a record; returns its offset."""
    offset = FacePack.open(root).reader.offset_of(key)
    content = bytearray((root / "train.rec").read_bytes())
    content[offset] ^= 1
    (root / "train.rec").write_bytes(content)
    return offset


def test_images_and_classes_of_all_packs_stand_one_after_the_other(roots):
    joined = open_pack(configure(roots))
    assert isinstance(joined, JoinedPacks)
    assert (joined.num_images, joined.num_classes, joined.sizes, joined.image_hw) == (22, 8, (12, 10), (32, 32))
    places = np.array([21, 0, 12, 11])
    keys = joined.keys_at(places)
    assert len(set(joined.keys_at(np.arange(22)).tolist())) == 22
    faces = joined.read_faces(keys)
    one, two = FacePack.open(roots[0]), FacePack.open(roots[1])
    expected = [two.read_image(10), one.read_image(1), two.read_image(1), one.read_image(12)]
    assert [bytes(image) for image in faces.images] == [bytes(record.image) for record in expected]
    assert faces.classes.tolist() == [3 + 4, 0, 3 + 0, 2]
    assert [joined.name_of(key) for key in keys.tolist()] == ["two:10", "one:1", "two:1", "one:12"]
    assert joined.describe(int(keys[2])).startswith(f"{roots[1] / 'train.rec'}: record 1 at byte ")


def test_packs_of_one_folder_name_are_told_apart(tmp_path):
    roots = tuple(write_pack(tmp_path / part / "pack", identities=2, pictures=2) for part in "ab")
    joined = open_pack(configure(roots))
    assert isinstance(joined, JoinedPacks)
    assert joined.names == tuple(map(str, roots))


def test_the_fingerprint_covers_every_pack_and_their_order(roots):
    before = open_pack(configure(roots)).fingerprint
    assert open_pack(configure(roots[::-1])).fingerprint != before
    assert pickle.loads(pickle.dumps(open_pack(configure(roots)))).fingerprint == before
    assert open_pack(configure(roots[:1])).fingerprint == FacePack.open(roots[0]).fingerprint
    (roots[1] / "property").write_text("5,32,32\n10\n")
    assert open_pack(configure(roots)).fingerprint != before


def test_damage_is_told_with_the_pack_that_has_it(roots, caplog):
    offset = damage(roots[1], 3)
    config = configure(roots)
    key = int(open_pack(config).keys_at(np.array([14]))[0])
    with build_train_loader(config) as loader, pytest.raises(RecordError) as caught:
        list(loader.epoch(0))
    assert f"{roots[1] / 'train.rec'}: record 3 at byte {offset}" in str(caught.value)
    assert (caught.value.key, caught.value.offset) == (3, offset)
    config = configure(roots, on_bad_record="skip")
    with build_train_loader(config) as loader, caplog.at_level(logging.WARNING):
        list(loader.epoch(0))
        assert list(loader.skipped_keys) == [key]
        assert loader.name_of(key) == "two:3"
    assert f"{roots[1] / 'train.rec'}: record 3 at byte {offset}" in caplog.text


def test_a_label_out_of_range_in_one_pack_is_not_a_class_of_the_next(roots):
    (roots[0] / "property").write_text("2,32,32\n")
    with pytest.raises(DataError, match=r"says 2 identities, but train\.rec has 3"):
        open_pack(configure(roots))


@pytest.mark.parametrize("data", [{}, {"weights": [1.0, 2.0]}, {"sampler": {"type": "balanced", "images": 2}}])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(roots, data, num_workers):
    with build_train_loader(configure(roots, **data)) as loader:
        expected = list(loader.epoch(1))
    with build_train_loader(configure(roots, num_workers=num_workers, **data)) as loader:
        assert (loader.num_images, loader.num_classes) == (22, 8)
        for start in (0, 2):
            found = list(loader.epoch(1, start_step=start))
            for left, right in zip(found, expected[start:], strict=True):
                assert torch.equal(left.images_BCHW, right.images_BCHW)
                assert torch.equal(left.labels_B, right.labels_B)
                assert torch.equal(left.keys_B, right.keys_B)


def test_the_order_is_what_the_configuration_says(roots):
    with build_train_loader(configure(roots, weights=[1.0, 3.0])) as loader:
        assert isinstance(loader._sampler.order, WeightedOrder)
        keys = np.concatenate([batch.keys_B.numpy() for batch in loader.epoch(0)])
        names = [loader.name_of(key).partition(":")[0] for key in keys.tolist()]
        assert 13 <= names.count("two") <= 17
    with build_train_loader(configure(roots, sampler={"type": "balanced", "images": 2})) as loader:
        assert isinstance(loader._sampler.order, BalancedOrder)
        for batch in loader.epoch(0):
            assert sorted(np.unique(batch.labels_B.numpy(), return_counts=True)[1].tolist()) == [2, 2]


@pytest.mark.parametrize("with_identities", [True, False])
def test_groups_come_from_identity_records_or_from_labels(tmp_path, with_identities):
    pack = FacePack.open(write_pack(tmp_path / "pack", identities=3, pictures=4))
    if not with_identities:
        pack.layout = "flat"
    groups = pack.groups()
    assert groups.starts.tolist() == [0, 4, 8, 12]
    assert groups.places.tolist() == list(range(12))


def test_a_damaged_identity_record_is_named(tmp_path):
    root = write_pack(tmp_path / "pack", identities=3, pictures=4)
    rec = root / "train.rec"
    content = bytearray(rec.read_bytes())
    offset = FacePack.open(root).reader.offset_of(14)
    content[offset + 32 : offset + 36] = np.float32(2.0).tobytes()
    rec.write_bytes(content)
    with pytest.raises(RecordError, match="identity record 14 does not name a range of images of its own") as caught:
        FacePack.open(root).groups()
    assert (caught.value.key, caught.value.offset) == (14, offset)


def test_a_picture_that_comes_twice_is_changed_each_time_on_its_own(roots):
    config = configure(roots, sampler={"type": "balanced", "images": 4})
    pack = open_pack(config)
    dataset = FaceDataset(pack, image_hw=(32, 32), augment=config.data.augment, seed=1)
    with build_train_loader(config) as loader:
        for request in loader._sampler.requests(0):
            batch = dataset.__getitems__(request)
            _, inverse = np.unique(request.indices, return_inverse=True)
            for number in range(inverse.max() + 1):
                rows = np.flatnonzero(inverse == number)
                if len(rows) == 4:
                    return
                pictures = {batch.images_BCHW[row].numpy().tobytes() for row in rows}
                if len(rows) > 1 and len(pictures) > 1:
                    return
    pytest.fail("no repeated picture was changed in two ways")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"weights": [1.0]}, "data.weights: has 1 numbers, but data.root names 2 packs"),
        ({"weights": [1.0, 0.0]}, "data.weights"),
        ({"sampler": {"images": 2}}, "data.sampler.images: has no effect with data.sampler.type 'shuffle'"),
        ({"sampler": {"type": "balanced", "images": 3}}, "3 does not divide data.batch_size"),
        ({"sampler": {"type": "balanced"}, "shuffle_block": 4}, "data.shuffle_block: has no effect"),
        ({"sampler": {"type": "balanced"}, "weights": [1.0, 2.0]}, "data.weights: has no effect"),
        ({"sampler": {"type": "balances"}}, "data.sampler.type"),
    ],
)
def test_settings_that_cannot_work_are_refused(roots, data, problem):
    with pytest.raises(ConfigError) as caught:
        configure(roots, **data)
    assert problem in str(caught.value)


def test_a_pack_listed_twice_is_refused(roots):
    with pytest.raises(ConfigError, match="lists a pack twice"):
        configure((roots[0], roots[0]))
    with pytest.raises(ConfigError, match="has no effect with one pack"):
        configure(roots[:1], weights=[1.0])
