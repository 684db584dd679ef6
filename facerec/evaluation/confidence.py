"""How far the numbers of a result can be trusted: intervals over people, for all metrics in one bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerec.evaluation.names import tar_name
from facerec.evaluation.result import PairResult
from facerec.metrics.bootstrap import Counts, SortedPairs, draw_over_identities
from facerec.metrics.intervals import Interval
from facerec.metrics.roc import Roc, auc, eer, index_at_far

__all__ = ["NUM_RESAMPLES", "Band", "Confidence", "PairMeasure", "estimate_confidence"]

NUM_RESAMPLES = 1000
"""Resamples of a report; the ends of a 95 % interval then rest on 25 of them each."""
_BAND_POINTS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """95 % intervals of TAR along the ROC; shape: every array (B,)."""

    far: NDArray[np.float64]
    tar_low: NDArray[np.float64]
    tar_high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Confidence:
    """95 % intervals by a bootstrap over people."""

    intervals: Mapping[str, Interval]
    """By the name of the metric: accuracy, auc, eer, tar_at_far_…"""
    band: Band
    num_people: int
    num_resamples: int


class PairMeasure:
    """The bootstrapped metrics of one model on counted pairs; two models' are subtracted to compare them."""

    def __init__(self, result: PairResult, fars: NDArray[np.float64]) -> None:
        self._pairs = SortedPairs(result.scores, result.issame)
        self._correct = result.correct
        self._fars = fars
        self.names = ("accuracy", "auc", "eer", *(tar_name(point.far_target) for point in result.operating_points))
        self._targets = [point.far_target for point in result.operating_points]

    def __call__(self, counts: Counts) -> NDArray[np.float64]:
        """The metrics of `names`, then TAR at each of the FARs."""
        roc = self._pairs.roc(counts)
        # At the thresholds of the folds: choosing them anew in each resample moves them less than the grid's step.
        accuracy = np.dot(counts, self._correct) / counts.sum()
        tars = [_tar(roc, far) for far in self._targets]
        places = np.searchsorted(roc.false_accepts, self._fars * roc.num_impostor, side="right") - 1
        return np.concatenate(([accuracy, auc(roc), eer(roc)], tars, roc.true_accepts[places] / roc.num_genuine))


def estimate_confidence(result: PairResult, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Confidence:
    """Intervals of a result when new people are drawn; see `draw_over_identities`.

    Raises:
        MetricError: there are no resamples.
    """
    lowest = 1.0 / (result.pairs - result.genuine)
    fars = np.geomspace(lowest, 1.0, _BAND_POINTS)
    measure = PairMeasure(result, fars)
    draws = draw_over_identities(
        measure, genuine=result.issame, people=result.people, num_resamples=num_resamples, seed=seed
    )
    low, high = (np.clip(ends, 0.0, 1.0) for ends in draws.interval())
    size = len(measure.names)
    return Confidence(
        intervals={
            name: Interval(float(a), float(b))
            for name, a, b in zip(measure.names, low[:size], high[:size], strict=True)
        },
        band=Band(far=fars, tar_low=low[size:], tar_high=high[size:]),
        num_people=draws.num_people,
        num_resamples=num_resamples,
    )


def _tar(roc: Roc, far: float) -> float:
    return int(roc.true_accepts[index_at_far(roc, far)]) / roc.num_genuine
