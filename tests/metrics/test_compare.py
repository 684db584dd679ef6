"""Comparisons of two models: against scipy, and by simulation of equal and unequal models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from facerec.errors import MetricError
from facerec.metrics.compare import mcnemar_exact, paired_bootstrap
from facerec.metrics.roc import auc, roc_curve


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_equals_the_binomial_test_of_scipy(decisions):
    first, second = np.array(decisions).T
    result = mcnemar_exact(first, second)
    only_first, only_second = np.sum(first & ~second), np.sum(second & ~first)
    assert (result.only_first, result.only_second) == (only_first, only_second)
    if only_first + only_second:
        expected = binomtest(int(only_first), int(only_first + only_second)).pvalue
        assert result.p_value == pytest.approx(expected)
    else:
        assert result.p_value == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_symmetric(decisions):
    first, second = np.array(decisions).T
    assert mcnemar_exact(first, second).p_value == pytest.approx(mcnemar_exact(second, first).p_value)


def models(seed, *, advantage, num_pairs=300):
    generator = np.random.default_rng(seed)
    genuine = np.arange(num_pairs) % 2 == 0
    common = 0.8 * genuine + generator.normal(0, 0.6, num_pairs)
    return [common + edge * genuine + generator.normal(0, 0.2, num_pairs) for edge in (advantage, 0.0)], genuine


def test_the_interval_covers_zero_for_equal_models_and_not_for_unequal_ones():
    def holds_zero(seed, advantage):
        (first, second), genuine = models(seed, advantage=advantage)
        low, high = paired_bootstrap(auc, first, second, genuine=genuine, num_resamples=100, seed=seed).interval
        return low <= 0.0 <= high

    assert np.mean([holds_zero(seed, 0.0) for seed in range(50)]) >= 0.86
    assert np.mean([holds_zero(seed, 0.4) for seed in range(20)]) <= 0.1


def test_pairing_narrows_the_interval():
    (first, second), genuine = models(0, advantage=0.1)
    paired = paired_bootstrap(auc, first, second, genuine=genuine, num_resamples=200).interval
    shuffled = np.empty_like(second)
    generator = np.random.default_rng(1)
    for kind in (genuine, ~genuine):
        shuffled[kind] = generator.permutation(second[kind])
    unpaired = paired_bootstrap(auc, first, shuffled, genuine=genuine, num_resamples=200).interval
    assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)


def test_the_difference_is_that_of_the_whole_set_and_repeats():
    (first, second), genuine = models(0, advantage=0.2)
    result = paired_bootstrap(auc, first, second, genuine=genuine, num_resamples=20)
    assert result.difference == auc(roc_curve(first, genuine)) - auc(roc_curve(second, genuine))
    assert result == paired_bootstrap(auc, first, second, genuine=genuine, num_resamples=20)


def test_people_who_are_hard_for_one_model_alone_widen_the_interval():
    generator = np.random.default_rng(0)
    num_people = 24
    own = np.repeat(np.arange(num_people), 8)
    strangers = np.stack([np.arange(192) % num_people, (np.arange(192) * 5 + 1) % num_people], 1)
    people = np.concatenate([np.stack([own, own], 1), strangers[strangers[:, 0] != strangers[:, 1]]])
    genuine = people[:, 0] == people[:, 1]
    first = np.where(genuine, 1.0, -1.0) + generator.normal(0, 0.8, len(people))
    # Some people gain by the first model, others lose: eight pairs of one person say little more than one.
    second = first - np.where(genuine, generator.normal(0, 1.5, num_people)[people[:, 0]], 0.0)
    of_people, of_pairs = (
        paired_bootstrap(auc, first, second, genuine=genuine, identities=identities, num_resamples=300)
        for identities in (people, None)
    )
    assert of_people.difference == of_pairs.difference
    assert of_people.interval.low < of_people.difference < of_people.interval.high
    assert np.subtract(*of_people.interval) < 1.7 * np.subtract(*of_pairs.interval)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(MetricError, match="same pairs"):
        mcnemar_exact([1, 0], [1])
    with pytest.raises(MetricError, match="same pairs"):
        mcnemar_exact([], [])
    with pytest.raises(MetricError, match="true"):
        mcnemar_exact([1, 3], [1, 0])
    with pytest.raises(MetricError, match="3 scores but 2 labels"):
        paired_bootstrap(auc, [0.1, 0.2], [0.1, 0.2, 0.3], genuine=[1, 0])
    with pytest.raises(MetricError, match="at least one resample"):
        paired_bootstrap(auc, [0.1, 0.2], [0.1, 0.2], genuine=[1, 0], num_resamples=0)
