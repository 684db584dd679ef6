"""Bootstrap intervals cover what they claim, whether people meet often or once, and repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from facerec.errors import MetricError
from facerec.metrics.bootstrap import SortedPairs, bootstrap_over_identities, draw_over_identities, identity_clusters
from facerec.metrics.roc import auc, index_at_far, roc_curve


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


_FAR = 0.1
_STATISTICS = ("gap of the means", "AUC", "TAR", "AUC of two models", "TAR of two models")
_GAPS = (1.0, 0.7)
"""How far apart the two models hold genuine and impostor pairs."""


def meeting(generator, num_people=200):
    """Everybody has two genuine pairs and meets six others; who scores high with oneself need not with others."""
    everybody = np.arange(num_people)
    others = [np.stack([everybody, np.roll(everybody, shift)], 1) for shift in (1, 2, 3)]
    people = np.concatenate([np.repeat(everybody, 2)[:, None].repeat(2, 1), *others])
    genuine = people[:, 0] == people[:, 1]

    def ease(own_sd, other_sd):
        own, other = generator.normal(0.0, own_sd, num_people), generator.normal(0.0, other_sd, num_people)
        return np.where(genuine, own[people[:, 0]], other[people].sum(axis=1))

    common = ease(0.8, 0.4)
    scores = [common + ease(0.3, 0.2) + generator.normal(0.0, 0.5, len(people)) for _ in _GAPS]
    return people, scores, (np.sqrt(0.64 + 0.09 + 0.25), np.sqrt(2 * (0.16 + 0.04) + 0.25))


def strangers(generator, num_people=300):
    """Everybody is in one pair: nothing depends on anything, but for the two models that see the same pictures."""
    everybody = np.arange(num_people)
    people = np.concatenate([everybody[:, None].repeat(2, 1), num_people + np.arange(2 * num_people).reshape(-1, 2)])
    common = generator.normal(0.0, 0.8, len(people))
    return people, [common + generator.normal(0.0, 0.6, len(people)) for _ in _GAPS], (1.0, 1.0)


def true_values(genuine_sd, impostor_sd):
    """What the statistics are where genuine and impostor scores are normal."""
    threshold = norm.isf(_FAR, scale=impostor_sd)
    areas = norm.cdf(np.array(_GAPS) / np.hypot(genuine_sd, impostor_sd))
    tars = norm.sf(threshold, loc=_GAPS, scale=genuine_sd)
    return np.array([_GAPS[0], areas[0], tars[0], areas[0] - areas[1], tars[0] - tars[1]])


def measure_of(scores, genuine):
    """The statistics of counted pairs of two models."""
    sorted_pairs = [SortedPairs(one, genuine) for one in scores]

    def measure(counts):
        means = [np.dot(counts[kind], scores[0][kind]) / counts[kind].sum() for kind in (genuine, ~genuine)]
        rocs = [pairs.roc(counts) for pairs in sorted_pairs]
        areas = [auc(roc) for roc in rocs]
        tars = [roc.true_accepts[index_at_far(roc, _FAR)] / roc.num_genuine for roc in rocs]
        return np.array([means[0] - means[1], areas[0], tars[0], areas[0] - areas[1], tars[0] - tars[1]])

    return measure


def coverage(make, *, simulations, num_resamples):
    """In which share of the simulations each interval holds the truth."""
    covered = np.zeros(len(_STATISTICS))
    for seed in range(simulations):
        people, noise, spreads = make(np.random.default_rng(seed))
        genuine = people[:, 0] == people[:, 1]
        scores = [gap * genuine + one for gap, one in zip(_GAPS, noise, strict=True)]
        draws = draw_over_identities(
            measure_of(scores, genuine), genuine=genuine, people=people, num_resamples=num_resamples, seed=seed
        )
        low, high = draws.interval()
        truth = true_values(*spreads)
        covered += (low <= truth) & (truth <= high)
    return dict(zip(_STATISTICS, covered / simulations, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "num_resamples"), [(meeting, 300), (strangers, 500)])
def test_95_per_cent_intervals_cover_93_to_97_in_a_thousand_simulations(make, num_resamples):
    found = coverage(make, simulations=1000, num_resamples=num_resamples)
    # A TAR moves in steps of single pairs, so intervals of a difference of two are a little too wide.
    most = {"TAR of two models": 0.98}
    assert all(0.93 <= share <= most.get(name, 0.97) for name, share in found.items()), found


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
