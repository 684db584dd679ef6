"""Rates and ratios of groups against plain loops and known values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.errors import MetricError
from facerec.metrics.groups import disparity, group_rates
from facerec.metrics.intervals import clopper_pearson


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60))
def test_rates_equal_a_loop(seed, size):
    generator = np.random.default_rng(seed)
    scores, genuine = generator.integers(0, 6, size).astype(float), generator.random(size) < 0.5
    genuine[:2] = True, False
    groups = generator.choice(["a", "b", ""], size)
    groups[0] = "a"
    for rate in group_rates(scores, genuine, groups=groups, threshold=3.0):
        here = [i for i in range(size) if groups[i] == rate.group]
        matches = [i for i in here if not genuine[i] and scores[i] >= 3.0]
        misses = [i for i in here if genuine[i] and scores[i] < 3.0]
        impostor = sum(not genuine[i] for i in here)
        assert (rate.false_matches, rate.false_non_matches) == (len(matches), len(misses))
        assert rate.num_impostor == impostor
        assert rate.fmr == (len(matches) / impostor if impostor else None)
        if impostor:
            assert rate.fmr_interval == clopper_pearson(len(matches), impostor)


def test_small_groups_are_marked_by_the_errors_that_they_could_show():
    scores = np.concatenate([np.zeros(990), np.ones(10), np.ones(990), np.zeros(10)])
    genuine = np.repeat([False, True], 1000)
    groups = np.array((["small"] * 100 + ["large"] * 900) * 2)
    small, large = group_rates(np.tile(scores, 4), np.tile(genuine, 4), groups=np.tile(groups, 4), threshold=0.5)
    assert (small.group, small.fmr_trusted, small.fnmr_trusted, small.too_small) == ("small", False, False, True)
    assert (large.fmr_trusted, large.fnmr_trusted, large.too_small) == (True, True, False)


def test_ratios_have_their_known_values():
    equal = disparity({"a": 0.1, "b": 0.1, "c": 0.1})
    assert (equal.max_over_min, equal.gini) == (1.0, 0.0)
    assert equal.max_over_geometric_mean == pytest.approx(1.0)
    one = disparity({"a": 0.0, "b": 0.0, "c": 0.3})
    assert (one.max_over_min, one.max_over_geometric_mean) == (None, None)
    # With the correction for few groups, one group that has all errors is as unequal as can be.
    assert one.gini == pytest.approx(1.0)
    assert (one.worst_group, one.best_group) == ("c", "a")
    assert disparity({"a": 0.0, "b": 0.0}).gini == 0.0


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(MetricError, match="no pair has a group"):
        group_rates([1.0, 0.0], [1, 0], groups=["", ""], threshold=0.5)
    with pytest.raises(MetricError, match="one group per pair"):
        group_rates([1.0, 0.0], [1, 0], groups=["a"], threshold=0.5)
    with pytest.raises(MetricError, match="two groups"):
        disparity({"a": 0.1})
    with pytest.raises(MetricError, match="not finite"):
        disparity({"a": 0.1, "b": float("nan")})
