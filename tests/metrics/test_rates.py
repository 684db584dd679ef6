"""FMR, FNMR, DET and the nearest-FAR reading against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_curve as sklearn_roc_curve

from facerec.errors import MetricError
from facerec.metrics.intervals import clopper_pearson
from facerec.metrics.rates import det_curve, error_rates, tar_nearest_far
from facerec.metrics.roc import roc_curve

from .test_roc import pairs


@settings(deadline=None)
@given(pairs(), st.integers(-13, 13))
def test_error_rates_equal_a_loop(pair, threshold):
    scores, genuine = pair
    rates = error_rates(scores, genuine, threshold=threshold)
    false_matches = sum(1 for s, g in zip(scores, genuine, strict=True) if not g and s >= threshold)
    misses = sum(1 for s, g in zip(scores, genuine, strict=True) if g and s < threshold)
    assert (rates.false_matches, rates.false_non_matches) == (false_matches, misses)
    assert (rates.fmr, rates.fnmr) == (false_matches / sum(~genuine), misses / sum(genuine))
    assert rates.fmr_interval == clopper_pearson(false_matches, int(sum(~genuine)))


@settings(deadline=None)
@given(pairs())
def test_the_det_holds_the_points_of_the_roc(pair):
    roc = roc_curve(*pair)
    det = det_curve(roc)
    np.testing.assert_array_equal(det.fmr, roc.far)
    np.testing.assert_allclose(det.fnmr, 1.0 - roc.tar, atol=1e-15)
    np.testing.assert_allclose(det.fmr_deviate, norm.ppf(roc.far), atol=1e-9)
    assert (det.fnmr_deviate[1:] <= det.fnmr_deviate[:-1]).all()


@settings(deadline=None)
@given(pairs(), st.floats(0.0, 1.0))
def test_the_nearest_point_is_that_of_a_table_read_off_a_curve_of_scikit_learn(pair, far):
    scores, genuine = pair
    fars, tars, _ = sklearn_roc_curve(genuine, scores)
    best = min(range(len(fars)), key=lambda i: (abs(fars[i] - far), -i))
    assert tar_nearest_far(roc_curve(*pair), far) == tars[best]


def test_a_point_on_a_straight_line_is_no_point_of_the_table():
    # Ten impostors in a row: scikit-learn keeps the first and the last of them.
    scores = np.arange(14, 0, -1)
    genuine = np.array([1, 1, *[0] * 10, 1, 0], dtype=bool)
    roc = roc_curve(scores, genuine)
    assert roc.tar[np.argmin(abs(roc.far - 0.6))] == 2 / 3
    assert tar_nearest_far(roc, 0.6) == 1.0


def test_corners_are_found_however_far_they_are_away(monkeypatch):
    monkeypatch.setattr("facerec.metrics.rates._WINDOW", 3)
    generator = np.random.default_rng(0)
    genuine = generator.random(3000) < 0.01
    scores = generator.normal(size=3000)
    fars, tars, _ = sklearn_roc_curve(genuine, scores)
    for far in np.linspace(0, 1, 97):
        best = min(range(len(fars)), key=lambda i: (abs(fars[i] - far), -i))
        assert tar_nearest_far(roc_curve(scores, genuine), far) == tars[best]


def test_what_is_no_rate_is_refused():
    with pytest.raises(MetricError, match="not a number"):
        error_rates([0.1, 0.2], [1, 0], threshold=float("nan"))
    with pytest.raises(MetricError, match="between 0 and 1"):
        tar_nearest_far(roc_curve([0.1, 0.2], [1, 0]), 1.5)
