"""ROC, TAR at FAR, AUC and EER against scikit-learn, scipy and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from facerec.errors import MetricError
from facerec.metrics.roc import auc, eer, far_label, roc_curve, tar_at_far


@st.composite
def pairs(draw, max_size=60, levels=12):
    """Scores with many ties, and labels of both kinds."""
    size = draw(st.integers(2, max_size))
    scores = draw(hnp.arrays(np.int64, size, elements=st.integers(-levels, levels))).astype(np.float64)
    genuine = draw(hnp.arrays(np.bool_, size))
    genuine[0], genuine[1] = True, False
    return scores, genuine


def brute_force_point(scores, genuine, far_target):
    """The best (TAR, FAR) over every threshold that could matter, by loops."""
    best = (0.0, 0.0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        accepted = [score >= threshold for score in scores]
        far = sum(a and not g for a, g in zip(accepted, genuine, strict=True)) / sum(~genuine)
        tar = sum(a and g for a, g in zip(accepted, genuine, strict=True)) / sum(genuine)
        if far <= far_target:
            best = (tar, far)
    return best


def brute_force_auc(scores, genuine):
    wins = [(g > i) + 0.5 * (g == i) for g in scores[genuine] for i in scores[~genuine]]
    return sum(wins) / len(wins)


CASES = {
    "all_equal": ([0.5] * 6, [1, 0, 1, 0, 0, 1]),
    "perfect": ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]),
    "reversed": ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]),
    "one_each": ([0.1, 0.1], [1, 0]),
    "one_genuine_among_many": ([0.3, 0.1, 0.2, 0.3, 0.3, 0.4], [1, 0, 0, 0, 0, 0]),
    "one_impostor_among_many": ([0.3, 0.1, 0.2, 0.3, 0.3, 0.4], [0, 1, 1, 1, 1, 1]),
    "negative_zero_ties_with_zero": ([0.0, -0.0, 0.0, -0.0], [1, 0, 0, 1]),
    "neighbouring_floats": ([0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0), 0.5], [1, 0, 1, 0]),
}


@pytest.mark.parametrize("name", CASES)
def test_edge_cases_equal_brute_force(name):
    scores, genuine = np.array(CASES[name][0]), np.array(CASES[name][1], dtype=bool)
    roc = roc_curve(scores, genuine)
    assert auc(roc) == pytest.approx(brute_force_auc(scores, genuine), abs=1e-15)
    for far in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        point = tar_at_far(roc, far)
        assert (point.tar, point.far) == brute_force_point(scores, genuine, far)


@given(pairs(), st.floats(0.0, 1.0))
def test_operating_point_equals_brute_force_on_ties(pair, far):
    scores, genuine = pair
    point = tar_at_far(roc_curve(scores, genuine), far)
    assert (point.tar, point.far) == brute_force_point(scores, genuine, far)


@given(pairs(), st.one_of(st.floats(0.0, 1.0), st.fractions(0, 1, max_denominator=60).map(float)))
def test_applying_the_threshold_gives_the_reported_rates_and_never_exceeds_the_target(pair, far):
    scores, genuine = pair
    point = tar_at_far(roc_curve(scores, genuine), far)
    accepted = scores >= point.threshold
    assert np.mean(accepted[~genuine]) == point.far <= far
    assert np.mean(accepted[genuine]) == point.tar
    assert np.isfinite(point.threshold)


@given(pairs())
def test_a_target_written_as_a_fraction_of_the_impostors_is_reached_exactly(pair):
    scores, genuine = pair
    roc = roc_curve(scores, genuine)
    for far in roc.far:
        assert tar_at_far(roc, float(far)).far == far


@given(pairs())
def test_curve_equals_scikit_learn(pair):
    scores, genuine = pair
    far, tar, thresholds = sklearn_roc_curve(genuine, scores, drop_intermediate=False)
    roc = roc_curve(scores, genuine)
    np.testing.assert_array_equal(roc.far, far)
    np.testing.assert_array_equal(roc.tar, tar)
    np.testing.assert_array_equal(roc.thresholds, thresholds)


@given(pairs())
def test_auc_equals_scikit_learn_and_loops(pair):
    scores, genuine = pair
    ours = auc(roc_curve(scores, genuine))
    assert ours == pytest.approx(roc_auc_score(genuine, scores), abs=1e-12)
    assert ours == pytest.approx(brute_force_auc(scores, genuine), abs=1e-12)


@given(pairs())
def test_eer_is_where_the_interpolated_curve_meets_the_diagonal(pair):
    scores, genuine = pair
    far, tar, _ = sklearn_roc_curve(genuine, scores)
    curve = interp1d(far, tar)
    ours = eer(roc_curve(scores, genuine))
    assert 0.0 <= ours <= 1.0
    if np.all(np.diff(far) > 0):
        assert ours == pytest.approx(brentq(lambda x: 1.0 - x - curve(x), 0.0, 1.0), abs=1e-9)
    else:
        low, high = tar[far <= ours + 1e-12].max(), tar[far >= ours - 1e-12].min()
        assert min(low, high) - 1e-12 <= 1.0 - ours <= max(low, high) + 1e-12


def test_eer_of_known_curves():
    assert eer(roc_curve([0.9, 0.1], [1, 0])) == 0.0
    assert eer(roc_curve([0.1, 0.9], [1, 0])) == 1.0
    assert eer(roc_curve([0.5] * 4, [1, 0, 1, 0])) == 0.5
    # Two of 20 genuine below two of 20 impostors: both error rates are a tenth.
    scores = [1.0] * 18 + [0.2] * 2 + [0.5] * 2 + [0.0] * 18
    assert eer(roc_curve(scores, [1] * 20 + [0] * 20)) == pytest.approx(0.1, abs=1e-15)


TRANSFORMS = {
    "shift_and_scale": lambda x: 3.0 * x - 7.0,
    "exponential": np.exp,
    "cube": lambda x: x**3,
    "logistic": lambda x: 1.0 / (1.0 + np.exp(-x / 4.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=30)
@given(pairs(), st.integers(0, 2**32 - 1))
def test_rates_survive_increasing_transforms_and_permutations(name, pair, seed):
    scores, genuine = pair
    order = np.random.default_rng(seed).permutation(scores.size)
    before, after = roc_curve(scores, genuine), roc_curve(TRANSFORMS[name](scores)[order], genuine[order])
    assert (auc(before), eer(before)) == (auc(after), eer(after))
    for far in (0.0, 0.01, 0.1, 0.3, 1.0):
        first, second = tar_at_far(before, far), tar_at_far(after, far)
        assert (first.tar, first.far) == (second.tar, second.far)


def test_a_decreasing_transform_is_noticed():
    scores, genuine = [0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0]
    assert auc(roc_curve(scores, genuine)) == 1.0
    assert auc(roc_curve([-score for score in scores], genuine)) == 0.0


@given(pairs())
def test_tar_rises_with_far(pair):
    roc = roc_curve(*pair)
    tars = [tar_at_far(roc, far).tar for far in np.linspace(0.0, 1.0, 23)]
    assert tars == sorted(tars)


@pytest.mark.parametrize(
    ("num_impostor", "trusted_from", "bound_below"),
    [(30, 1.0, 0.1), (300, 0.1, 0.01), (3000, 0.01, 0.001), (30000, 0.001, 0.0001), (700, 30 / 700, 3 / 700)],
)
def test_points_below_30_errors_are_untrusted_and_below_3_a_bound(num_impostor, trusted_from, bound_below):
    scores = np.arange(num_impostor + 1.0)
    roc = roc_curve(scores, scores == num_impostor)
    below = np.nextafter
    assert tar_at_far(roc, trusted_from).trusted
    assert not tar_at_far(roc, below(trusted_from, 0)).trusted
    assert not tar_at_far(roc, bound_below).is_bound
    assert tar_at_far(roc, below(bound_below, 0)).is_bound


def test_without_false_accepts_the_far_is_only_known_to_be_below_3_in_n():
    scores = np.arange(3001.0)
    point = tar_at_far(roc_curve(scores, scores == 3000), 1e-4)
    assert point.far == 0.0
    assert point.far_upper == pytest.approx(3 / 3000, rel=2e-3)
    assert point.expected_errors == pytest.approx(0.3)


def test_where_an_impostor_scores_highest_nothing_is_accepted():
    point = tar_at_far(roc_curve([0.5, 0.9, 0.1], [1, 0, 0]), 0.1)
    assert (point.tar, point.far, point.true_accepts, point.false_accepts) == (0.0, 0.0, 0, 0)
    assert point.threshold == np.nextafter(0.9, 1.0)


def test_auc_stays_exact_with_millions_of_pairs():
    # 2 * 1e6 * 3e6 exceeds 32 bits; the true value is known in closed form.
    scores = np.concatenate([np.ones(1_000_000), np.zeros(3_000_000)])
    roc = roc_curve(scores, np.arange(4_000_000) < 1_000_000)
    assert auc(roc) == 1.0


BAD = {
    "nan": ([0.1, np.nan], [1, 0], "not finite"),
    "inf": ([0.1, np.inf], [1, 0], "not finite"),
    "empty": ([], [], "no scores"),
    "only genuine": ([0.1, 0.2], [1, 1], "no impostor"),
    "only impostor": ([0.1, 0.2], [0, 0], "no genuine"),
    "lengths": ([0.1, 0.2, 0.3], [1, 0], "3 scores but 2 labels"),
    "two dimensions": ([[0.1, 0.2]], [1, 0], "one dimension"),
    "labels of two dimensions": ([0.1, 0.2], [[1, 0]], "one dimension"),
    "labels other than 0 and 1": ([0.1, 0.2], [1, 2], "true .* or false"),
    "text": (["a", "b"], [1, 0], "real numbers"),
    "complex": ([1j, 0], [1, 0], "real numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_curve_is_defined_for_is_refused(name):
    scores, genuine, sentence = BAD[name]
    with pytest.raises(MetricError, match=sentence):
        roc_curve(scores, genuine)


@pytest.mark.parametrize("far", [-1e-9, 1.1, np.nan])
def test_an_impossible_target_is_refused(far):
    with pytest.raises(MetricError, match="between 0 and 1"):
        tar_at_far(roc_curve([0.9, 0.1], [1, 0]), far)


def test_labels_of_far_are_as_metric_names_spell_them():
    assert [far_label(10.0**-k) for k in range(1, 7)] == ["1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
