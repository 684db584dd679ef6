"""Orders of pictures: weighted sources and balanced batches, functions of (seed, epoch, place) alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facerec.data.orders import BalancedOrder, Groups, Order, WeightedOrder, group_by
from facerec.data.sampler import BatchSampler
from facerec.errors import ConfigError

LABELS = np.repeat([4, 0, 3, 1, 2, 7, 9], [5, 1, 9, 4, 2, 30, 12])


def balanced(*, seed: int = 3, images: int = 4) -> BalancedOrder:
    return BalancedOrder(groups=group_by(LABELS), images_per_identity=images, seed=seed)


def weighted(*, seed: int = 3, weights: tuple[float, ...] = (1.0, 3.0, 0.5), block: int = 0) -> WeightedOrder:
    return WeightedOrder(sizes=(40, 25, 60), weights=weights, seed=seed, shuffle_block=block)


def epoch(order: Order, number: int, *, batch_size: int = 8) -> np.ndarray:
    take = order.batches(number, batch_size=batch_size)
    return np.stack([take(step) for step in range(order.num_images // batch_size)])


@pytest.mark.parametrize("make", [balanced, weighted])
def test_an_order_is_a_function_of_seed_epoch_and_number(make):
    order = make()
    whole = epoch(order, 2)
    np.testing.assert_array_equal(epoch(make(), 2), whole)
    take = make().batches(2, batch_size=8)
    for step in (5, 0, 3):
        np.testing.assert_array_equal(take(step), whole[step])
    assert not np.array_equal(epoch(order, 3), whole)
    assert not np.array_equal(epoch(make(seed=4), 2), whole)


@pytest.mark.parametrize("make", [balanced, weighted])
def test_several_ranks_together_see_what_one_sees(make):
    one = BatchSampler(order=make(), batch_size=16)
    two = [BatchSampler(order=make(), batch_size=8, rank=rank, world_size=2) for rank in range(2)]
    for request, *parts in zip(one.requests(1), *(sampler.requests(1) for sampler in two), strict=True):
        np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), request.indices)
        np.testing.assert_array_equal(np.concatenate([part.counters for part in parts]), request.counters)


@pytest.mark.parametrize("make", [balanced, weighted])
def test_starting_late_gives_the_tail_and_no_two_rows_share_a_counter(make):
    sampler = BatchSampler(order=make(), batch_size=8)
    whole = list(sampler.requests(1))
    tail = list(sampler.requests(1, start_step=3))
    for late, early in zip(tail, whole[3:], strict=True):
        np.testing.assert_array_equal(late.indices, early.indices)
        np.testing.assert_array_equal(late.counters, early.counters)
    counters = np.concatenate([request.counters for request in whole])
    assert len(np.unique(counters)) == len(counters)


def test_a_balanced_batch_has_as_many_pictures_of_each_identity():
    order = balanced()
    for batch in itertools.chain(epoch(order, 0), epoch(order, 1)):
        labels, counts = np.unique(LABELS[batch], return_counts=True)
        assert len(labels) == 2
        assert counts.tolist() == [4, 4]
        for label in labels:
            mine = batch[LABELS[batch] == label]
            most = -(-4 // int((label == LABELS).sum()))
            assert np.unique(mine, return_counts=True)[1].max() == most, "repeats only where there are too few"


def test_all_identities_come_before_one_comes_again():
    order = balanced()
    groups = [set(LABELS[batch].tolist()) for number in range(20) for batch in epoch(order, number)]
    rounds = [groups[begin : begin + 3] for begin in range(0, len(groups) - 2, 3)]
    assert all(len(set.union(*batches)) == 6 for batches in rounds), "seven identities make three batches of two"
    left_out = [({0, 1, 2, 3, 4, 7, 9} - set.union(*batches)).pop() for batches in rounds]
    assert set(left_out) == {0, 1, 2, 3, 4, 7, 9}


def test_every_picture_of_an_identity_is_chosen_as_often():
    order = balanced()
    shown = np.concatenate([epoch(order, number).ravel() for number in range(300)])
    counts = np.bincount(shown, minlength=len(LABELS))
    assert counts.min() > 0
    for label in (3, 7, 9):
        mine = counts[label == LABELS]
        assert mine.max() / mine.mean() < 1.4
        assert mine.min() / mine.mean() > 0.6


def test_more_identities_than_there_are_is_an_error_that_says_what_to_change():
    with pytest.raises(ConfigError, match=r"takes 8 identities \(32 images, 4 of each\), .* has 7; lower"):
        balanced().batches(0, batch_size=32)


def test_groups_name_every_place_once():
    groups = group_by(np.array([5, 2, 5, 9, 2, 2]))
    assert isinstance(groups, Groups)
    parts = [groups.places[a:b].tolist() for a, b in itertools.pairwise(groups.starts)]
    assert parts == [[1, 4, 5], [0, 2], [3]]


@pytest.mark.parametrize("block", [0, 4])
def test_weights_are_the_shares_of_the_sources(block):
    order = weighted(block=block)
    assert order.num_images == 125
    assert order.quotas() == [28, 83, 14]
    sources = np.searchsorted([40, 65], epoch(order, 0, batch_size=125)[0], side="right")
    assert np.bincount(sources).tolist() == [28, 83, 14]
    thirds = [np.mean(part == 1) for part in np.array_split(sources, 3)]
    assert min(thirds) > 0.4, "the sources are mixed over the whole epoch"


@pytest.mark.parametrize("block", [0, 4])
def test_a_picture_comes_again_only_after_all_others_of_its_source(block):
    order = weighted(block=block)
    shown = np.concatenate([epoch(order, number, batch_size=125)[0] for number in range(10)])
    for begin, end in ((0, 40), (40, 65), (65, 125)):
        mine = shown[(shown >= begin) & (shown < end)]
        seen = np.bincount(mine - begin, minlength=end - begin)
        assert seen.max() - seen.min() <= 1


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1e-9, 1.0, 1.0), (0.3, 0.3, 0.4), (1e300, 1e300, 1.0)])
def test_quotas_add_up(weights):
    quotas = weighted(weights=weights).quotas()
    assert sum(quotas) == 125
    assert min(quotas) >= 0
