"""The k-fold protocols against stored results of arcface_torch, scikit-learn's KFold and the plain loops."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline, interp1d
from sklearn.model_selection import KFold

from facerec.errors import MetricError
from facerec.metrics.protocols import exact_kfold_accuracy, fold_of_pairs, kfold_accuracy, val_at_far
from facerec.metrics.similarity import normalise, squared_distances


def random_pairs(seed, num_pairs, *, digits=None, reach=4.2):
    """Overlapping distances (some beyond the last threshold), rounded to give ties, some of them on thresholds."""
    generator = np.random.default_rng(seed)
    genuine = generator.random(num_pairs) < 0.5
    genuine[:2] = True, False
    distances = np.clip(np.where(genuine, 1.0, 1.9) + generator.normal(0, 0.6, num_pairs), 0.0, reach)
    return (distances if digits is None else distances.round(digits)), genuine


def brute_force_kfold(distances, genuine, num_folds):
    """The protocol as it is written down, one threshold at a time."""
    thresholds = np.arange(0, 4, 0.01)
    accuracies, chosen = [], []
    for training, test in KFold(num_folds, shuffle=False).split(distances):
        scores = [np.mean((distances[training] < t) == genuine[training]) for t in thresholds]
        threshold = thresholds[int(np.argmax(scores))]
        chosen.append(threshold)
        accuracies.append(np.mean((distances[test] < threshold) == genuine[test]))
    return np.array(accuracies), np.array(chosen)


def interpolate_as_old_scipy(far, thresholds, target):
    """A spline of degree 1 with the data's own x as knots, built without the check for repeated x."""
    knots = np.r_[far[0], far, far[-1]]
    return float(BSpline.construct_fast(knots, thresholds, 1)(target))


def brute_force_val(distances, genuine, target, num_folds):
    thresholds = np.arange(0, 4, 0.001)
    vals, fars = [], []
    for training, test in KFold(num_folds, shuffle=False).split(distances):
        impostors = distances[training][~genuine[training]]
        far = np.array([np.mean(impostors < t) for t in thresholds])
        threshold = interpolate_as_old_scipy(far, thresholds, target) if far.max() >= target else 0.0
        same, truth = distances[test] < threshold, genuine[test]
        vals.append(np.mean(same[truth]))
        fars.append(np.mean(same[~truth]))
    return np.mean(vals), np.std(vals), np.mean(fars)


@pytest.fixture(scope="module")
def lfw(shared_data):
    """Distances and labels of the 6,000 LFW pairs, and arcface_torch's results on them."""
    with np.load(shared_data / "oracle" / "lfw_embeddings.npz", allow_pickle=False) as stored:
        summed = normalise(stored["original"].astype(np.float64) + stored["flipped"])
        first, second = stored["pair_index"].T
        distances, genuine = squared_distances(summed[first], summed[second]), stored["issame"]
    return distances, genuine, json.loads((shared_data / "oracle" / "lfw_expected.json").read_text())


def test_lfw_equals_arcface_torch(lfw):
    distances, genuine, expected = lfw
    result = kfold_accuracy(distances, genuine)
    assert result.accuracy == pytest.approx(expected["accuracy"], abs=1e-12, rel=0)
    assert result.accuracy_std == pytest.approx(expected["std"], abs=1e-12, rel=0)
    np.testing.assert_allclose(result.fold_accuracy, expected["fold_accuracy"], atol=1e-12, rtol=0)
    np.testing.assert_allclose(result.fold_threshold_sq_l2, expected["fold_threshold_sq_l2"], atol=1e-12, rtol=0)


def test_without_the_flip_lfw_differs(lfw, shared_data):
    _, genuine, expected = lfw
    with np.load(shared_data / "oracle" / "lfw_embeddings.npz", allow_pickle=False) as stored:
        alone = normalise(stored["original"])
        first, second = stored["pair_index"].T
    assert kfold_accuracy(squared_distances(alone[first], alone[second]), genuine).accuracy != expected["accuracy"]


def test_val_on_lfw_equals_the_loops(lfw):
    distances, genuine, _ = lfw
    result = val_at_far(distances, genuine, far=1e-3)
    assert (result.val, result.val_std, result.far) == pytest.approx(
        brute_force_val(distances, genuine, 1e-3, 10), abs=1e-12
    )


@pytest.mark.parametrize("digits", [None, 2, 1])
@pytest.mark.parametrize("num_pairs", [10, 11, 19, 95, 200])
def test_accuracy_equals_the_loops(num_pairs, digits):
    for seed in range(4):
        distances, genuine = random_pairs(seed, num_pairs, digits=digits)
        accuracy, thresholds = brute_force_kfold(distances, genuine, 10)
        result = kfold_accuracy(distances, genuine)
        np.testing.assert_array_equal(result.fold_accuracy, accuracy)
        np.testing.assert_array_equal(result.fold_threshold_sq_l2, thresholds)
        assert result.accuracy == np.mean(accuracy)
        assert result.accuracy_std == np.std(accuracy)


def test_a_distance_on_a_threshold_is_not_accepted_by_it():
    threshold = np.arange(0, 4, 0.01)[50]
    distances = np.array([threshold, 2.0] * 4)
    result = kfold_accuracy(distances, [True, False] * 4, num_folds=4)
    np.testing.assert_array_equal(result.fold_threshold_sq_l2, np.arange(0, 4, 0.01)[[51] * 4])


def test_all_distances_equal_give_the_share_of_the_larger_class():
    genuine = np.arange(20) % 5 == 0
    result = kfold_accuracy(np.ones(20), genuine)
    assert result.accuracy == pytest.approx(0.8)
    np.testing.assert_array_equal(result.fold_threshold_sq_l2, np.zeros(10))


def test_pairs_beyond_the_last_threshold_are_never_accepted():
    result = kfold_accuracy(np.full(20, 4.0), np.arange(20) % 4 != 0)
    assert result.accuracy == pytest.approx(0.25)


@given(st.integers(2, 60), st.integers(2, 15))
def test_folds_are_those_of_scikit_learn(num_pairs, num_folds):
    if num_pairs < num_folds:
        with pytest.raises(MetricError, match=f"{num_pairs} pairs cannot fill {num_folds} folds"):
            fold_of_pairs(num_pairs, num_folds)
        return
    ours = fold_of_pairs(num_pairs, num_folds)
    for fold, (_, test) in enumerate(KFold(num_folds, shuffle=False).split(np.zeros(num_pairs))):
        np.testing.assert_array_equal(np.flatnonzero(ours == fold), test)


@pytest.mark.parametrize("digits", [None, 3, 1])
@pytest.mark.parametrize("target", [1e-3, 0.05, 0.1, 0.5, 0.9])
def test_val_equals_the_loops(target, digits):
    for seed in range(2):
        distances, genuine = random_pairs(seed, 203, digits=digits)
        result = val_at_far(distances, genuine, far=target, num_folds=5)
        assert (result.val, result.val_std, result.far) == pytest.approx(
            brute_force_val(distances, genuine, target, 5), abs=1e-12
        )


def test_the_interpolation_is_scipys_where_scipy_accepts_it():
    far, thresholds = np.array([0.0, 0.1, 0.4, 1.0]), np.array([0.0, 1.0, 2.0, 4.0])
    for target in (0.0, 0.05, 0.1, 0.3, 0.99):
        expected = float(interp1d(far, thresholds, kind="slinear")(target))
        assert np.interp(target, far, thresholds) == pytest.approx(expected, abs=1e-15)
        assert interpolate_as_old_scipy(far, thresholds, target) == pytest.approx(expected, abs=1e-15)


def test_val_is_zero_where_the_far_is_never_reached():
    distances = np.array([0.5, 3.9999] * 10)
    result = val_at_far(distances, [True, False] * 10, far=0.5)
    assert (result.val, result.far) == (0.0, 0.0)


def test_val_needs_both_kinds_in_every_fold():
    with pytest.raises(MetricError, match=r"fold 0 of 2.*no impostor"):
        val_at_far([0.1, 0.2, 0.3, 0.4], [True, True, False, False], num_folds=2)


def brute_force_exact(distances, genuine, num_folds):
    accuracies = []
    for training, test in KFold(num_folds, shuffle=False).split(distances):
        known = np.unique(distances[training])
        candidates = [known[0], *(known[:-1] + np.diff(known) / 2), np.nextafter(known[-1], np.inf)]
        scores = [np.mean((distances[training] < t) == genuine[training]) for t in candidates]
        threshold = candidates[int(np.argmax(scores))]
        accuracies.append(np.mean((distances[test] < threshold) == genuine[test]))
    return np.array(accuracies)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 40), st.sampled_from([None, 1, 0]))
def test_exact_accuracy_equals_the_loops(seed, num_pairs, digits):
    distances, genuine = random_pairs(seed, num_pairs, digits=digits)
    ours = exact_kfold_accuracy(distances, genuine).fold_accuracy
    np.testing.assert_array_equal(ours, brute_force_exact(distances, genuine, 10))


def test_exact_threshold_separates_neighbouring_floats():
    low = 0.3
    high = np.nextafter(low, 1.0)
    result = exact_kfold_accuracy([low, high] * 4, [True, False] * 4, num_folds=4)
    assert result.accuracy == 1.0


def test_exact_accuracy_is_at_least_the_grids_on_training_data():
    distances, genuine = random_pairs(3, 400)
    for fold in range(10):
        training = fold_of_pairs(400, 10) != fold
        exact = exact_kfold_accuracy(distances, genuine).fold_threshold_sq_l2[fold]
        grid = kfold_accuracy(distances, genuine).fold_threshold_sq_l2[fold]
        correct = [np.sum((distances[training] < t) == genuine[training]) for t in (exact, grid)]
        assert correct[0] >= correct[1]


@pytest.mark.parametrize("protocol", [kfold_accuracy, exact_kfold_accuracy, val_at_far])
def test_protocols_refuse_what_they_are_not_defined_for(protocol):
    genuine = [True, False] * 10
    with pytest.raises(MetricError, match="cannot be negative"):
        protocol([0.5, -0.5] * 10, genuine)
    with pytest.raises(MetricError, match="not finite"):
        protocol([0.5, np.nan] * 10, genuine)
    with pytest.raises(MetricError, match="4 pairs cannot fill 10 folds"):
        protocol([0.5, 1.5] * 2, [True, False] * 2)
    with pytest.raises(MetricError, match="at least 2 folds"):
        protocol([0.5, 1.5] * 10, genuine, num_folds=1)
    with pytest.raises(MetricError, match="no impostor"):
        protocol([0.5, 1.5] * 10, [True] * 20)


@pytest.mark.parametrize("far", [0.0, -0.1, 1.0, np.nan])
def test_val_refuses_an_impossible_target(far):
    with pytest.raises(MetricError, match="target FAR"):
        val_at_far([0.5, 1.5] * 10, [True, False] * 10, far=far)
