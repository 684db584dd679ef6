"""The loader: the same batches for any number of workers, from any step, on any number of ranks; clear errors."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import simplejpeg
import torch

from facerec.config import Config, config_from_dict
from facerec.data.loader import Batch, TrainLoader, build_train_loader
from facerec.data.recordio import RecordWriter, build_image_record
from facerec.errors import ConfigError, ImageError, MissingPathError, RecordError

NUM_CLASSES, PER_CLASS, SIDE = 5, 5, 16
AUGMENT = {"flip": {"p": 0.5}, "shift": {"p": 0.5}, "jpeg_quality": {"p": 0.5}, "erasing": {"p": 0.3}}


def write_pack(folder: Path, damaged: tuple[int, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        end = 1 + NUM_CLASSES * PER_CLASS
        writer.write(0, build_image_record(b"", label=[end, end + NUM_CLASSES]))
        for key in range(1, end):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
            image = simplejpeg.encode_jpeg(pixels, quality=90)
            writer.write(
                key, build_image_record(image[:-30] if key in damaged else image, label=(key - 1) // PER_CLASS)
            )
        for label in range(NUM_CLASSES):
            start = 1 + label * PER_CLASS
            writer.write(end + label, build_image_record(b"", label=[start, start + PER_CLASS]))
    (folder / "property").write_text(f"{NUM_CLASSES},{SIDE},{SIDE}\n")
    return folder


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("damaged"), damaged=(7, 12))


def configure(root: Path | None, **data: object) -> Config:
    section = {"batch_size": 4, "num_workers": 0, "img_size": SIDE, "augment": AUGMENT, **data}
    if root is not None:
        section["root"] = str(root)
    return config_from_dict({"seed": 3, "data": section})


def batches(loader: TrainLoader, epoch: int = 0, start_step: int = 0) -> list[Batch]:
    return list(loader.epoch(epoch, start_step=start_step))


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.images_BCHW, b.images_BCHW)
        assert torch.equal(a.labels_B, b.labels_B)
        assert torch.equal(a.keys_B, b.keys_B)


@pytest.fixture(scope="module")
def expected(pack_folder) -> dict[int, list[Batch]]:
    with build_train_loader(configure(pack_folder)) as loader:
        return {epoch: batches(loader, epoch) for epoch in (0, 1)}


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_a_batch_is_a_channels_last_view_of_bytes(expected):
    first = expected[0][0]
    assert first.images_BCHW.shape == (4, 3, SIDE, SIDE)
    assert first.images_BCHW.dtype == torch.uint8
    assert first.images_BCHW.permute(0, 2, 3, 1).is_contiguous()
    assert first.labels_B.dtype == first.keys_B.dtype == torch.int64
    assert torch.equal(first.labels_B, (first.keys_B - 1) // PER_CLASS)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_batches_do_not_depend_on_the_number_of_workers(pack_folder, expected, num_workers):
    with build_train_loader(configure(pack_folder, num_workers=num_workers)) as loader:
        for epoch in (0, 1):
            assert_equal(batches(loader, epoch), expected[epoch])
        assert loader.epoch(0).__next__().images_BCHW.permute(0, 2, 3, 1).is_contiguous()


def test_another_seed_and_another_epoch_give_other_batches(pack_folder, expected):
    other = config_from_dict({"seed": 4, "data": {"batch_size": 4, "num_workers": 0, "root": str(pack_folder)}})
    with build_train_loader(other) as loader:
        assert not torch.equal(batches(loader)[0].keys_B, expected[0][0].keys_B)
    assert not torch.equal(expected[0][0].keys_B, expected[1][0].keys_B)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_starting_at_a_step_gives_the_tail_of_the_epoch(pack_folder, expected, num_workers):
    with build_train_loader(configure(pack_folder, num_workers=num_workers)) as loader:
        assert loader.steps_per_epoch == 6
        for start_step in (0, 2, 5, 6):
            assert_equal(batches(loader, 1, start_step), expected[1][start_step:])
        with pytest.raises(ValueError, match="outside of an epoch of 6 steps"):
            loader.epoch(0, start_step=7)


def test_every_image_comes_once_but_the_rest(expected):
    keys = torch.cat([batch.keys_B for batch in expected[0]])
    assert len(keys) == 24
    assert len(keys.unique()) == 24
    assert 1 <= keys.min() <= keys.max() <= 25


def test_two_ranks_equal_one_with_the_double_batch(pack_folder):
    with build_train_loader(configure(pack_folder, batch_size=8)) as one:
        whole = batches(one)
    ranks = []
    for rank in range(2):
        with build_train_loader(configure(pack_folder), rank=rank, world_size=2) as loader:
            ranks.append(batches(loader))
    joined = [Batch(*(torch.cat(pair) for pair in zip(*both, strict=True))) for both in zip(*ranks, strict=True)]
    assert_equal(joined, whole)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn"])
def test_other_ways_to_start_workers_give_the_same_batches(pack_folder, expected, context):
    config = configure(pack_folder, num_workers=1)
    with build_train_loader(config, multiprocessing_context=context) as loader:
        assert_equal(batches(loader), expected[0])


def test_workers_live_from_epoch_to_epoch_and_end_with_the_loader(pack_folder):
    before = {child.pid for child in children()}
    loader = build_train_loader(configure(pack_folder, num_workers=2))
    assert {child.pid for child in children()} == before, "nothing starts before the first epoch"
    batches(loader, 0)
    workers = {child.pid for child in children()} - before
    assert len(workers) == 2
    next(loader.epoch(1))
    batches(loader, 2)
    assert {child.pid for child in children()} - before == workers
    loader.close()
    assert {child.pid for child in children()} == before
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        loader.epoch(0)


def test_an_abandoned_epoch_does_not_leak_into_the_next(pack_folder, expected):
    with build_train_loader(configure(pack_folder, num_workers=2)) as loader:
        abandoned = loader.epoch(0)
        next(abandoned)
        assert_equal(batches(loader, 1), expected[1])
        with pytest.raises(RuntimeError, match="another epoch was started"):
            next(abandoned)


def test_an_error_in_the_training_loop_leaves_no_worker(pack_folder):
    before = {child.pid for child in children()}

    def train() -> None:
        with build_train_loader(configure(pack_folder, num_workers=2)) as loader:
            for _ in loader.epoch(0):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert {child.pid for child in children()} == before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_global_generator_of_torch_is_left_alone(pack_folder, num_workers):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with build_train_loader(configure(pack_folder, num_workers=num_workers)) as loader:
        batches(loader, 0)
        batches(loader, 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_image_ends_training_with_one_clear_sentence(damaged_folder, num_workers):
    with build_train_loader(configure(damaged_folder, num_workers=num_workers)) as loader:
        with pytest.raises(ImageError) as caught:
            batches(loader)
        message = str(caught.value)
        assert "\n" not in message
        assert "record 7 at byte" in message or "record 12 at byte" in message
        assert "train.rec" in message
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_record_keeps_its_key_and_offset_on_the_way_to_the_trainer(pack_folder, tmp_path, num_workers):
    folder = write_pack(tmp_path / "broken")
    offsets = dict(map(int, line.split("\t")) for line in (folder / "train.idx").read_text().splitlines())
    with open(folder / "train.rec", "r+b") as stream:
        stream.seek(offsets[9])
        stream.write(b"\0\0\0\0")
    with (
        build_train_loader(configure(folder, num_workers=num_workers)) as loader,
        pytest.raises(RecordError) as caught,
    ):
        batches(loader)
    assert caught.value.key == 9
    assert caught.value.offset == offsets[9]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipping_leaves_out_exactly_the_damaged_ones_and_counts_them(damaged_folder, expected, num_workers, caplog):
    config = configure(damaged_folder, num_workers=num_workers, on_bad_record="skip", batch_size=5)
    with build_train_loader(config) as loader, caplog.at_level(logging.WARNING):
        found = [batches(loader, epoch) for epoch in range(2)]
    for epoch in found:
        assert all(batch.images_BCHW.shape[0] == 5 for batch in epoch)
        seen = torch.cat([batch.keys_B for batch in epoch]).tolist()
        assert set(seen) == set(range(1, 26)) - {7, 12}
        assert len(seen) == 25, "the places of the two are filled"
    assert set(loader.skipped_keys) == {7, 12}
    assert len(caplog.records) == 2, "each key is told once, not once an epoch"
    assert "record 7 at byte" in caplog.text
    assert "record 12 at byte" in caplog.text


def test_skipping_gives_the_same_batches_for_any_number_of_workers(damaged_folder):
    found = []
    for num_workers in (0, 2):
        config = configure(damaged_folder, num_workers=num_workers, on_bad_record="skip")
        with build_train_loader(config) as loader:
            found.append(batches(loader))
    assert_equal(*found)


def test_a_pack_smaller_than_a_batch_is_a_configuration_error(pack_folder):
    with pytest.raises(
        ConfigError, match=r"data\.batch_size: .* 25 images, fewer than one batch of 26; lower it to 25"
    ):
        build_train_loader(configure(pack_folder, batch_size=26))


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        build_train_loader(configure(None))
    with pytest.raises((ConfigError, MissingPathError), match="nowhere"):
        build_train_loader(configure(tmp_path / "nowhere"))


def test_a_missing_mxnet_is_a_configuration_error(pack_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mxnet", None)
    with pytest.raises(ConfigError, match=r"data\.reader: mxnet cannot be imported .*install the extra 'mxnet'"):
        build_train_loader(configure(pack_folder, reader="mxnet"))


def test_an_open_pack_is_used_as_it_is(pack_folder, expected):
    with (
        build_train_loader(configure(pack_folder)) as first,
        build_train_loader(configure(None), pack=first.pack) as loader,
    ):
        assert loader.pack is first.pack
        assert (loader.num_images, loader.num_classes) == (25, 5)
        assert_equal(batches(loader), expected[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_without_a_map_gives_the_same_batches(pack_folder, expected, num_workers):
    with build_train_loader(configure(pack_folder, num_workers=num_workers, io="pread")) as loader:
        assert_equal(batches(loader), expected[0])


def test_real_faces_load(shared_data):
    config = config_from_dict({"data": {"root": str(shared_data / "lfw"), "batch_size": 256, "num_workers": 2}})
    with build_train_loader(config) as loader:
        assert (loader.num_images, loader.num_classes, loader.steps_per_epoch) == (10_562, 4_859, 41)
        keys = torch.cat([batch.keys_B for batch in loader.epoch(0)])
        assert len(keys.unique()) == 41 * 256
        first = next(loader.epoch(0))
        assert first.images_BCHW.shape == (256, 3, 112, 112)
        assert 60 < first.images_BCHW.float().mean() < 180
