"""Thresholds and their intervals, against brute force and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from facerec.serving.calibrate import FARS, calibrate, threshold_interval
from tests.evaluation.conftest import made_up_result


def test_thresholds_are_those_of_the_evaluation() -> None:
    result = made_up_result(num_pairs=4000)
    calibration = calibrate(result)
    points = {point.far_target: point for point in result.operating_points}
    for entry in calibration.thresholds:
        assert entry.threshold == points[entry.far].threshold
        assert entry.tar == np.mean(result.scores[result.issame] >= entry.threshold)
        assert entry.far_seen == np.mean(result.scores[~result.issame] >= entry.threshold) <= entry.far
        assert entry.tar_interval[0] <= entry.tar <= entry.tar_interval[1]
        assert entry.threshold_interval[0] <= entry.threshold <= entry.threshold_interval[1]
    assert tuple(entry.far for entry in calibration.thresholds) == FARS
    assert calibration.sha256 == result.sha256


@pytest.mark.parametrize(("pairs", "far", "is_bound"), [(400, 1e-2, True), (1000, 1e-2, False), (8000, 1e-3, False)])
def test_the_rate_that_counts_is_one_that_the_pairs_can_show_or_a_bound_that_says_so(
    pairs: int, far: float, is_bound: bool
) -> None:
    calibration = calibrate(made_up_result(num_pairs=pairs))
    entry = next(entry for entry in calibration.thresholds if entry.far == calibration.default_far)
    assert (entry.far, entry.is_bound) == (far, is_bound)
    # What an answer states beside the rate: whatever was asked for, 200 impostor pairs leave more than 3 %.
    assert (entry.far_interval[1] > 0.03) is (pairs == 400)


def test_a_threshold_tells_whether_the_impostor_pairs_are_enough_for_it() -> None:
    told = [entry.enough_pairs for entry in calibrate(made_up_result(num_pairs=8000)).thresholds]
    assert told == ["yes", "hardly", "no, only a bound"]


def test_the_histograms_count_every_pair() -> None:
    result = made_up_result()
    calibration = calibrate(result)
    assert sum(calibration.genuine_histogram) == result.genuine
    assert sum(calibration.impostor_histogram) == result.pairs - result.genuine
    assert len(calibration.genuine_histogram) == 100


@pytest.mark.parametrize("far", [1e-2, 1e-1])
def test_the_interval_of_a_threshold_covers_the_true_one(far: float) -> None:
    generator = np.random.default_rng(0)
    true = 1.0 - far  # of uniform scores
    inside = 0
    for _ in range(400):
        falling = np.sort(generator.random(2000))[::-1]
        low, high = threshold_interval(falling, far=far)
        inside += low <= true <= high
    assert 0.93 <= inside / 400 <= 1.0


def test_too_few_pairs_leave_the_threshold_open_to_the_top() -> None:
    low, high = threshold_interval(np.linspace(0.5, 0.0, 100), far=1e-4)
    assert high == 1.0
    assert low <= 0.5
