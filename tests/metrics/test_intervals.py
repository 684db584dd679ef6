"""The intervals cover what they claim, by simulation and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from facerec.errors import MetricError
from facerec.metrics.intervals import bootstrap_over_identities, clopper_pearson, upper_bound
from facerec.metrics.roc import auc, roc_curve


@given(st.integers(1, 5000), st.floats(0.0, 1.0), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(trials, share, confidence):
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert clopper_pearson(successes, trials, confidence=confidence) == pytest.approx((expected.low, expected.high))


@given(st.integers(1, 5000), st.floats(0.0, 1.0))
def test_upper_bound_equals_scipy(trials, share):
    successes = round(share * trials)
    expected = binomtest(successes, trials, alternative="less").proportion_ci(0.95, method="exact")
    assert upper_bound(successes, trials) == pytest.approx(expected.high)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2, 0.5, 0.97])
@pytest.mark.parametrize("trials", [20, 300])
def test_clopper_pearson_covers(rate, trials):
    intervals = np.array([clopper_pearson(successes, trials) for successes in range(trials + 1)])
    seen = np.random.default_rng(int(rate * 1000) + trials).binomial(trials, rate, size=20_000)
    covered = np.mean((intervals[seen, 0] <= rate) & (rate <= intervals[seen, 1]))
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 20_000)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
def test_upper_bound_covers_exactly(rate):
    trials = 200
    bounds = np.array([upper_bound(successes, trials) for successes in range(trials + 1)])
    chance_of_each = binom.pmf(np.arange(trials + 1), trials, rate)
    assert chance_of_each[bounds >= rate].sum() >= 0.95


def test_a_narrower_claim_does_not_cover():
    """The negative control of the coverage tests: a 50 % interval misses a 95 % claim."""
    intervals = np.array([clopper_pearson(successes, 300, confidence=0.5) for successes in range(301)])
    seen = np.random.default_rng(0).binomial(300, 0.2, size=20_000)
    assert np.mean((intervals[seen, 0] <= 0.2) & (intervals[seen, 1] >= 0.2)) < 0.8


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]
)
def test_impossible_counts_are_refused(successes, trials, confidence):
    for function in (clopper_pearson, upper_bound):
        with pytest.raises(MetricError):
            function(successes, trials, confidence=confidence)


def population(seed, num_people=40, *, spread=1.0):
    """Pairs of people whose scores share a component per person: pairs of one person are not independent."""
    generator = np.random.default_rng(seed)
    ease = generator.normal(0.0, spread, num_people)
    people = [(person, person) for person in range(num_people) for _ in range(4)]
    scores = [1.0 + ease[person] + generator.normal(0, 0.2) for person, _ in people]
    for person in range(num_people):
        other = (person + 1 + int(generator.integers(num_people - 1))) % num_people
        people.append((person, other))
        scores.append(-1.0 + generator.normal(0, 0.2))
    people = np.array(people)
    return np.array(scores), people[:, 0] == people[:, 1], people


def mean_gap(scores, genuine):
    return float(scores[genuine].mean() - scores[~genuine].mean())


def test_bootstrap_over_identities_covers_where_pairs_depend_on_people():
    covered, widths = [], []
    for seed in range(80):
        scores, genuine, people = population(seed)
        low, high = bootstrap_over_identities(
            mean_gap, scores, genuine, identities=people, num_resamples=120, seed=seed
        )
        covered.append(low <= 2.0 <= high)
        widths.append(high - low)
    # About 95 % is claimed; percentile intervals of 40 people fall a little short of it.
    assert np.mean(covered) >= 0.86
    # The mean of 40 people's eases has a standard error of 1 / sqrt(40); counting pairs would halve the width.
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.2)


def test_bootstrap_repeats_with_its_seed_and_only_with_it():
    scores, genuine, people = population(0)

    def interval(seed):
        return bootstrap_over_identities(
            lambda s, g: auc(roc_curve(s, g)), scores, genuine, identities=people, num_resamples=20, seed=seed
        )

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_names_of_identities_do_not_matter():
    scores, genuine, people = population(0)
    first = bootstrap_over_identities(mean_gap, scores, genuine, identities=people, num_resamples=20)
    second = bootstrap_over_identities(mean_gap, scores, genuine, identities=people * 1000 + 7, num_resamples=20)
    assert first == second


def test_bootstrap_refuses_what_contradicts_itself():
    scores, genuine, people = population(0)
    with pytest.raises(MetricError, match="shape"):
        bootstrap_over_identities(mean_gap, scores, genuine, identities=people[:, 0])
    with pytest.raises(MetricError, match="contradict the labels"):
        bootstrap_over_identities(mean_gap, scores, ~genuine, identities=people)
    with pytest.raises(MetricError, match="at least one resample"):
        bootstrap_over_identities(mean_gap, scores, genuine, identities=people, num_resamples=0)


def test_resamples_without_a_kind_of_pair_are_drawn_again():
    # With two people, half of all resamples hold only one of them and so no impostor pair.
    low, high = bootstrap_over_identities(
        mean_gap, [0.9, 0.1], [True, False], identities=[[0, 0], [0, 1]], num_resamples=50
    )
    assert (low, high) == pytest.approx((0.8, 0.8))
