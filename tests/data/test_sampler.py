"""The order of training: a function of (seed, epoch, rank) that covers everything once."""

from __future__ import annotations

import numpy as np
import pytest

from facerec.data.orders import WINDOW_BLOCKS, ShuffledOrder, WeightedOrder, epoch_order
from facerec.data.sampler import BatchSampler
from facerec.errors import ConfigError


def shuffled(
    num_images: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1, shuffle_block: int = 0
) -> BatchSampler:
    order = ShuffledOrder(num_images=num_images, seed=seed, shuffle_block=shuffle_block)
    return BatchSampler(order=order, batch_size=batch_size, rank=rank, world_size=world_size)


def rows(sampler: BatchSampler, epoch: int = 0, start_step: int = 0) -> np.ndarray:
    return np.stack([request.indices for request in sampler.requests(epoch, start_step=start_step)])


def test_an_epoch_shows_every_image_once_but_the_rest():
    batches = rows(shuffled(num_images=103, batch_size=10, seed=1))
    assert batches.shape == (10, 10)
    assert batches.dtype == np.int64
    assert len(np.unique(batches)) == 100
    assert batches.min() >= 0
    assert batches.max() < 103


def test_what_an_epoch_may_leave_out_is_the_rest_or_anything_where_pictures_repeat():
    assert shuffled(num_images=103, batch_size=10, seed=1).most_unseen_images == 3
    assert shuffled(num_images=103, batch_size=10, seed=1, world_size=3).most_unseen_images == 13
    repeating = WeightedOrder(sizes=(90, 10), weights=(1.0, 1.0), seed=1)
    assert BatchSampler(order=repeating, batch_size=10).most_unseen_images == 100


def test_the_same_seed_gives_the_same_order_and_others_do_not():
    sampler = shuffled(num_images=64, batch_size=8, seed=1)
    np.testing.assert_array_equal(rows(sampler, 3), rows(sampler, 3))
    assert not np.array_equal(rows(sampler, 3), rows(sampler, 4))
    assert not np.array_equal(rows(sampler, 3), rows(shuffled(num_images=64, batch_size=8, seed=2), 3))


@pytest.mark.parametrize("start_step", range(7))
def test_starting_late_gives_the_tail_of_the_epoch(start_step):
    sampler = shuffled(num_images=65, batch_size=10, seed=1)
    tail = [request.indices for request in sampler.requests(2, start_step=start_step)]
    np.testing.assert_array_equal(np.array(tail).reshape(-1, 10), rows(sampler, 2)[start_step:])


@pytest.mark.parametrize("start_step", [-1, 7])
def test_starting_outside_of_the_epoch_is_an_error(start_step):
    with pytest.raises(ValueError, match="outside of an epoch of 6 steps"):
        shuffled(num_images=65, batch_size=10, seed=1).requests(0, start_step=start_step)


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("shuffle_block", [0, 5])
def test_several_ranks_together_equal_one_with_the_larger_batch(world_size, shuffle_block):
    one = shuffled(num_images=101, batch_size=4 * world_size, seed=9, shuffle_block=shuffle_block)
    ranks = [
        shuffled(num_images=101, batch_size=4, seed=9, rank=rank, world_size=world_size, shuffle_block=shuffle_block)
        for rank in range(world_size)
    ]
    assert {sampler.steps_per_epoch for sampler in ranks} == {one.steps_per_epoch}
    np.testing.assert_array_equal(np.concatenate([rows(sampler, 1) for sampler in ranks], axis=1), rows(one, 1))


@pytest.mark.parametrize("shuffle_block", [1, 4, 7, 1000])
@pytest.mark.parametrize("num_images", [1, 10, 1003])
def test_block_shuffling_is_still_a_permutation(num_images, shuffle_block):
    order = epoch_order(num_images, seed=5, epoch=2, shuffle_block=shuffle_block)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_images))


def test_block_shuffling_keeps_reads_within_a_window():
    size, block = 64 * 10 * WINDOW_BLOCKS, 64
    window = block * WINDOW_BLOCKS
    order = epoch_order(size, seed=5, epoch=0, shuffle_block=block)
    for start in range(0, size, window):
        assert len(np.unique(order[start : start + window] // block)) == WINDOW_BLOCKS
    assert len(np.unique(epoch_order(size, seed=5, epoch=0)[:window] // block)) > 9 * WINDOW_BLOCKS


def test_block_shuffling_mixes_the_pictures_of_a_window():
    order = epoch_order(4096, seed=5, epoch=0, shuffle_block=64)
    neighbours = np.mean(np.abs(np.diff(order)) == 1)
    assert neighbours < 0.01
    assert np.abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.06
    assert not np.array_equal(order, epoch_order(4096, seed=5, epoch=1, shuffle_block=64))


def test_every_place_is_equally_likely():
    firsts = np.concatenate([epoch_order(8, seed=seed, epoch=0)[None] for seed in range(2000)])
    counts = np.stack([np.bincount(firsts[:, place], minlength=8) for place in range(8)])
    assert counts.min() > 250 - 5 * 15
    assert counts.max() < 250 + 5 * 15


def test_too_few_images_for_a_batch_are_an_error_that_says_what_to_lower():
    with pytest.raises(ConfigError, match=r"data\.batch_size: .* 7 images, fewer than one batch of 8; lower it to 7"):
        shuffled(num_images=7, batch_size=8, seed=0)
    with pytest.raises(ConfigError, match=r"7 images, fewer than one batch of 4 x 2 processes; lower it to 3"):
        shuffled(num_images=7, batch_size=4, seed=0, world_size=2)
    assert shuffled(num_images=8, batch_size=8, seed=0).steps_per_epoch == 1
