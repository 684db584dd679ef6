"""Intervals of a whole result: they hold the result, follow its seed, and widen with fewer people."""

import dataclasses

import numpy as np
import pytest

from facerec.errors import MetricError
from facerec.evaluation.confidence import PairMeasure, estimate_confidence

from .conftest import made_up_result


def test_intervals_hold_the_estimates_and_the_band_holds_the_curve(result):
    found = estimate_confidence(result, num_resamples=200)
    values = {"accuracy": result.accuracy, "auc": result.auc, "eer": result.eer}
    for name, value in values.items():
        low, high = found.intervals[name]
        assert low <= value <= high
        assert high - low < 0.2
    assert set(found.intervals) >= {"tar_at_far_1e-1", "tar_at_far_1e-4"}
    assert (found.band.tar_low <= found.band.tar_high).all()
    assert found.band.far[-1] == pytest.approx(1.0)
    assert found.band.tar_low[-1] == pytest.approx(1.0)
    # 200 genuine pairs join two images each; the others are strangers to each other.
    assert (found.num_people, found.num_resamples) == (200 + 400, 200)


def test_the_measure_of_every_pair_once_is_the_result(result):
    measured = dict(
        zip(PairMeasure(result, np.empty(0)).names, PairMeasure(result, np.empty(0))(np.ones(400, int)), strict=True)
    )
    assert measured["accuracy"] == pytest.approx(result.accuracy)
    assert measured["auc"] == result.auc
    assert measured["eer"] == result.eer
    assert measured["tar_at_far_1e-2"] == result.operating_points[1].tar


def test_it_repeats_and_fewer_people_know_less(result):
    first, second = (estimate_confidence(result, num_resamples=100) for _ in range(2))
    assert first.intervals == second.intervals
    # The same pairs, now of twenty people.
    few = result.people % 20
    few[result.issame, 1] = few[result.issame, 0]
    few[~result.issame, 1] = (few[~result.issame, 0] + 1 + few[~result.issame, 1] % 19) % 20
    crowd = estimate_confidence(dataclasses.replace(result, people=few), num_resamples=100)
    assert crowd.num_people == 20
    assert np.subtract(*crowd.intervals["accuracy"]) < np.subtract(*first.intervals["accuracy"])


def test_no_resamples_are_refused():
    with pytest.raises(MetricError, match="at least one resample"):
        estimate_confidence(made_up_result(num_pairs=40), num_resamples=0)
