"""Error rates at a fixed threshold, the DET, and the rate that published template tables report."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import FloatArray, check_pairs
from facerec.metrics.intervals import Interval, clopper_pearson
from facerec.metrics.roc import Roc

__all__ = ["Det", "ErrorRates", "det_curve", "error_rates", "tar_nearest_far"]

_WINDOW = 4096
"""Points among which a corner is looked for first."""


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """How often a fixed threshold errs."""

    threshold: float
    """Pairs with score >= threshold are accepted."""
    fmr: float
    """False match rate: accepted impostor pairs / impostor pairs."""
    fnmr: float
    """False non-match rate: rejected genuine pairs / genuine pairs."""
    false_matches: int
    false_non_matches: int
    num_impostor: int
    num_genuine: int
    fmr_interval: Interval
    """95 %, Clopper-Pearson."""
    fnmr_interval: Interval
    """95 %, Clopper-Pearson."""


@dataclass(frozen=True, kw_only=True)
class Det:
    """The detection error trade-off on its usual axes.

    Shape: every array (T,), from the strictest threshold to the loosest.
    """

    fmr: FloatArray
    fnmr: FloatArray
    fmr_deviate: FloatArray
    """Standard normal deviate of ``fmr``; -inf at 0, +inf at 1."""
    fnmr_deviate: FloatArray


def error_rates(scores: ArrayLike, genuine: ArrayLike, *, threshold: float) -> ErrorRates:
    """FMR and FNMR at a threshold that was chosen elsewhere, with their intervals.

    Shape: scores (P,) real, higher for more alike; genuine (P,) bool.

    Raises:
        MetricError: see `facerec.metrics.checks.check_pairs`; the threshold is not a number.

    Source: ISO/IEC 19795-1, false match rate and false non-match rate.

    >>> rates = error_rates([0.9, 0.5, 0.5, 0.1], [True, True, False, False], threshold=0.6)
    >>> rates.fmr, rates.fnmr
    (0.0, 0.5)
    """
    values, labels = check_pairs(scores, genuine)
    if np.isnan(threshold):
        raise MetricError("the threshold is not a number")
    accepted = values >= threshold
    num_genuine = int(np.count_nonzero(labels))
    num_impostor = labels.size - num_genuine
    true_matches = int(np.count_nonzero(accepted & labels))
    false_matches = int(np.count_nonzero(accepted)) - true_matches
    misses = num_genuine - true_matches
    return ErrorRates(
        threshold=float(threshold),
        fmr=false_matches / num_impostor,
        fnmr=misses / num_genuine,
        false_matches=false_matches,
        false_non_matches=misses,
        num_impostor=num_impostor,
        num_genuine=num_genuine,
        fmr_interval=clopper_pearson(false_matches, num_impostor),
        fnmr_interval=clopper_pearson(misses, num_genuine),
    )


def det_curve(roc: Roc) -> Det:
    """FNMR over FMR, on normal-deviate scales where normally distributed scores give a straight line.

    Source: Martin et al. 1997, "The DET curve in assessment of detection task performance".

    >>> from facerec.metrics.roc import roc_curve
    >>> det = det_curve(roc_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False]))
    >>> det.fmr, det.fnmr, det.fnmr_deviate
    (array([0. , 0. , 0.5, 1. ]), array([1. , 0.5, 0. , 0. ]), array([ inf,   0., -inf, -inf]))
    """
    # scipy.special, not scipy.stats: the latter takes a second to import.
    from scipy.special import ndtri

    fmr, fnmr = roc.far, (roc.num_genuine - roc.true_accepts) / roc.num_genuine
    return Det(fmr=fmr, fnmr=fnmr, fmr_deviate=ndtri(fmr), fnmr_deviate=ndtri(fnmr))


def tar_nearest_far(roc: Roc, far: float) -> float:
    """TAR at the corner of the curve whose FAR is nearest to a target, which it may exceed.

    Published IJB tables are read off in this way, from a curve of scikit-learn, which leaves out points that lie on a
    straight line between their neighbours; of two corners equally near, the one with the higher FAR counts, and of
    several with one FAR the highest TAR. `facerec.metrics.roc.tar_at_far` is the figure to trust.

    Raises:
        MetricError: ``far`` is outside [0, 1].

    Source: the table in arcface_torch ``eval_ijbc.py``, and ``roc_curve`` of scikit-learn with ``drop_intermediate``.

    >>> from facerec.metrics.roc import roc_curve
    >>> tar_nearest_far(roc_curve([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], [1, 1, 0, 1, 0, 0]), 0.3)
    1.0
    """
    if not 0.0 <= far <= 1.0:
        raise MetricError(f"a target FAR lies between 0 and 1, not {far}")
    above = bisect_left(roc.false_accepts, far * roc.num_impostor)
    near = [_corner_from(roc, above)]
    if above > 0:
        near.append(_corner_before(roc, above))
    best = min(near, key=lambda index: (abs(roc.false_accepts[index] / roc.num_impostor - far), -index))
    # Where several points have one FAR, the last is a corner.
    last = bisect_right(roc.false_accepts, roc.false_accepts[best]) - 1
    return int(roc.true_accepts[last]) / roc.num_genuine


def _corner_from(roc: Roc, start: int) -> int:
    """The first corner at ``start`` or behind it; the last point is one."""
    width = _WINDOW
    while not (found := _corners(roc, start, start + width)).size:
        start, width = start + width, 2 * width
    return int(found[0])


def _corner_before(roc: Roc, stop: int) -> int:
    """The last corner before ``stop``; the first point is one."""
    width = _WINDOW
    while not (found := _corners(roc, stop - width, stop)).size:
        stop, width = stop - width, 2 * width
    return int(found[-1])


def _corners(roc: Roc, start: int, stop: int) -> NDArray[np.intp]:
    """Places from ``start`` to before ``stop`` at which the curve turns, with its first two points and its last."""
    last = roc.thresholds.size - 1
    places = np.arange(max(start, 0), min(stop, last + 1))
    inner = places.clip(1, last - 1)
    turns = [
        counts[inner + 1] - counts[inner] != counts[inner] - counts[inner - 1]
        for counts in (roc.false_accepts, roc.true_accepts)
    ]
    return places[(places <= 1) | (places == last) | turns[0] | turns[1]]
