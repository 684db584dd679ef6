"""Decision thresholds from the scores of a pair set."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facerec.evaluation.result import PairResult
from facerec.metrics.intervals import clopper_pearson
from facerec.metrics.roc import OperatingPoint
from facerec.serving.spec import HISTOGRAM_BINS, Calibration, Threshold

__all__ = ["FARS", "calibrate", "threshold_interval"]

FARS = (1e-2, 1e-3, 1e-4)
"""False accept rates whose thresholds travel with a predictor."""

_CONFIDENCE = 0.95


def calibrate(result: PairResult) -> Calibration:
    """The thresholds at `FARS`, with their intervals, and the histograms of the scores.

    The rate that counts where a request names none is 1e-3; where the impostor pairs cannot show that, 1e-2. Pairs that
    are too few even for that give a bound alone, which every answer states beside the rate.
    """
    impostor = np.sort(result.scores[~result.issame])[::-1]
    thresholds = tuple(_threshold(result.at_far(far), impostor) for far in FARS)
    return Calibration(
        pair_set=result.name,
        sha256=result.sha256,
        pairs=result.pairs,
        genuine=result.genuine,
        accuracy=result.accuracy,
        accuracy_std=result.accuracy_std,
        auc=result.auc,
        eer=result.eer,
        thresholds=thresholds,
        default_far=FARS[0] if thresholds[1].is_bound else FARS[1],
        genuine_histogram=_histogram(result.scores[result.issame]),
        impostor_histogram=_histogram(impostor),
    )


def _threshold(point: OperatingPoint, impostor: NDArray[np.float64]) -> Threshold:
    return Threshold(
        far=point.far_target,
        threshold=point.threshold,
        threshold_interval=threshold_interval(impostor, far=point.far_target),
        tar=point.tar,
        tar_interval=tuple(clopper_pearson(point.true_accepts, point.num_genuine, confidence=_CONFIDENCE)),
        far_seen=point.far,
        far_interval=tuple(clopper_pearson(point.false_accepts, point.num_impostor, confidence=_CONFIDENCE)),
        trusted=point.trusted,
        is_bound=point.is_bound,
    )


def threshold_interval(
    impostor: NDArray[np.float64], *, far: float, confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Distribution-free interval of the similarity that a share ``far`` of all impostor pairs reaches.

    Shape: ``impostor`` (N,), falling. Where the pairs cannot bound the threshold from above, the upper end is 1.

    Source: order statistics as confidence limits of quantiles, David and Nagaraja 2003, section 7.1.
    """
    from scipy.stats import binom

    tail = (1.0 - confidence) / 2.0
    few, many = (int(binom.ppf(share, impostor.size, far)) for share in (tail, 1.0 - tail))
    high = 1.0 if few == 0 else float(impostor[few - 1])
    low = float(impostor[min(many, impostor.size - 1)])
    return low, max(high, math.nextafter(low, 2.0))


def _histogram(scores: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(scores, bins=HISTOGRAM_BINS, range=(-1.0, 1.0))
    return tuple(int(count) for count in counts)
