"""Bootstrap intervals cover what they claim, whether people meet often or once, and repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.errors import MetricError
from facerec.metrics.bootstrap import SortedPairs, bootstrap_over_identities, draw_over_identities, identity_clusters
from facerec.metrics.roc import auc, roc_curve


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


def dense(generator, num_people=30):
    """Every person meets many others; a person's ease moves all scores of theirs."""
    ease = generator.normal(0.0, 0.5, num_people)
    own = np.repeat(np.arange(num_people), 3)
    people = np.concatenate([np.stack([own, own], 1), np.stack(np.triu_indices(num_people, 1), 1)])
    genuine = people[:, 0] == people[:, 1]
    scores = np.where(genuine, 1.0, -1.0) + ease[people].sum(axis=1) + generator.normal(0.0, 0.3, len(people))
    return scores, genuine, people


def sparse(generator, num_people=100):
    """Everybody is in one pair: nothing depends on anything."""
    own = np.arange(num_people)
    people = np.concatenate([np.stack([own, own], 1), num_people + np.arange(2 * num_people).reshape(-1, 2)])
    genuine = people[:, 0] == people[:, 1]
    return np.where(genuine, 1.0, -1.0) + generator.normal(0.0, 1.0, len(people)), genuine, people


def coverage(make, *, simulations, num_resamples):
    covered = 0
    for seed in range(simulations):
        scores, genuine, people = make(np.random.default_rng(seed))

        def gap(counts, scores=scores, genuine=genuine):
            sums = [np.dot(counts[kind], scores[kind]) / counts[kind].sum() for kind in (genuine, ~genuine)]
            return np.array([sums[0] - sums[1]])

        draws = draw_over_identities(gap, genuine=genuine, people=people, num_resamples=num_resamples, seed=seed)
        low, high = draws.interval()
        covered += low[0] <= 2.0 <= high[0]
    return covered / simulations


@pytest.mark.slow
@pytest.mark.parametrize(("make", "num_resamples"), [(dense, 300), (sparse, 800)])
def test_95_per_cent_intervals_cover_93_to_97_in_a_thousand_simulations(make, num_resamples):
    assert 0.93 <= coverage(make, simulations=1000, num_resamples=num_resamples) <= 0.97


@st.composite
def counted_pairs(draw):
    size = draw(st.integers(2, 40))
    scores = np.array(draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size)), dtype=float)
    genuine = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    counts = np.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    genuine[:2], counts[:2] = (True, False), 1
    return scores, genuine, counts


@settings(deadline=None)
@given(counted_pairs())
def test_a_counted_curve_is_that_of_the_repeated_pairs(case):
    scores, genuine, counts = case
    counted = SortedPairs(scores, genuine).roc(counts)
    repeated = roc_curve(np.repeat(scores, counts), np.repeat(genuine, counts))
    assert auc(counted) == auc(repeated)
    kept = np.isin(counted.thresholds, repeated.thresholds)
    np.testing.assert_array_equal(counted.far[kept], repeated.far)
    np.testing.assert_array_equal(counted.tar[kept], repeated.tar)


def test_images_joined_by_genuine_pairs_are_one_person():
    clusters = identity_clusters([[7, 3], [3, 9], [9, 1], [1, 0], [5, 5]], [True, True, False, True, False])
    assert clusters[0, 0] == clusters[0, 1] == clusters[1, 1] == clusters[2, 0]
    assert clusters[2, 1] == clusters[3, 0] == clusters[3, 1] != clusters[0, 0]
    assert clusters[4, 0] == clusters[4, 1] not in (clusters[0, 0], clusters[3, 0])


@pytest.mark.parametrize(("pairs", "genuine"), [([], []), ([[0, 1]], [True, False]), ([[-1, 0]], [True])])
def test_clusters_need_pairs_of_rows(pairs, genuine):
    with pytest.raises(MetricError, match="pair_index"):
        identity_clusters(pairs, genuine)
