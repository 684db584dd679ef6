"""The intervals cover what they claim, by simulation and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from facerec.errors import MetricError
from facerec.metrics.intervals import clopper_pearson, upper_bound


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
