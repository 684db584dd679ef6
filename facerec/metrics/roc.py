"""The ROC of verification scores and what is read off it: TAR at a FAR, AUC, EER.

Scores are similarities, a higher one more alike; in this project they are cosines. A threshold t accepts every pair
with score >= t. TAR is the accepted fraction of the genuine pairs, FAR that of the impostor pairs. Everything follows
from exact counts at every distinct score, so ties cannot be split and no grid of thresholds limits the resolution.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import FloatArray, check_pairs
from facerec.metrics.intervals import upper_bound

__all__ = [
    "OperatingPoint",
    "Roc",
    "auc",
    "eer",
    "far_label",
    "index_at_far",
    "is_bound",
    "roc_curve",
    "roc_of_sorted",
    "tar_at_far",
]

_TRUSTED_ERRORS = 30.0
"""Expected false accepts for a rate known to about a third at 95 % (Doddington's rule of 30)."""
_BOUND_ERRORS = 3.0
"""Below 3 / n a rate cannot be told from zero at 95 % (rule of three)."""


@dataclass(frozen=True, kw_only=True)
class Roc:
    """Counts at every threshold that makes a difference, from the strictest (nothing is accepted) to the loosest.

    Shape: every array (T,), T = number of distinct scores + 1.
    """

    thresholds: FloatArray
    """Falling strictly; the first is infinite."""
    false_accepts: NDArray[np.int64]
    """Accepted impostor pairs."""
    true_accepts: NDArray[np.int64]
    """Accepted genuine pairs."""
    num_impostor: int
    num_genuine: int

    @property
    def far(self) -> FloatArray:
        """False accept rate at each threshold, from 0 to 1."""
        return self.false_accepts / self.num_impostor

    @property
    def tar(self) -> FloatArray:
        """True accept rate at each threshold, from 0 to 1."""
        return self.true_accepts / self.num_genuine


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The most permissive threshold whose FAR does not exceed a target."""

    far_target: float
    tar: float
    """True accept rate at the threshold."""
    far: float
    """False accept rate seen at the threshold; at most ``far_target``."""
    threshold: float
    """Pairs with score >= threshold are accepted."""
    num_impostor: int
    num_genuine: int
    true_accepts: int
    false_accepts: int
    expected_errors: float
    """False accepts that ``num_impostor`` pairs show on average at the target."""
    trusted: bool
    """At least 30 errors are expected; with fewer the threshold hangs on a few impostor pairs."""
    is_bound: bool
    """Fewer than 3 errors are expected: the pairs are too few to show the target; only ``far_upper`` is known."""
    far_upper: float
    """The true FAR at this threshold is below this with 95 % confidence (one-sided Clopper-Pearson)."""


def roc_curve(scores: ArrayLike, genuine: ArrayLike) -> Roc:
    """Count accepted pairs at every distinct score.

    Shape: scores (P,) real, higher for more alike; genuine (P,) bool.

    Raises:
        MetricError: the shapes differ, there is nothing, a score is not finite, or only one kind of pair is there.

    >>> roc = roc_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    >>> roc.thresholds, roc.far, roc.tar
    (array([inf, 0.9, 0.5, 0.1]), array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    values, labels = check_pairs(scores, genuine)
    # Sorting the values of each kind is many times faster than an order of all pairs by which labels are gathered.
    ours, theirs = values[labels], values[~labels]
    ours.sort()
    theirs.sort()
    return roc_of_sorted(ours, theirs)


def roc_of_sorted(genuine_scores: FloatArray, impostor_scores: FloatArray) -> Roc:
    """`roc_curve` of the scores of each kind, both rising and finite.

    Shape: (G,), (I,), neither empty.

    >>> roc_of_sorted(np.array([0.5, 0.9]), np.array([0.1, 0.5])).true_accepts
    array([0, 1, 2, 2])
    """
    total = genuine_scores.size + impostor_scores.size
    rising, accepted = _distinct_with_infinity(genuine_scores, impostor_scores)
    np.subtract(total, accepted, out=accepted)
    true_accepts = np.bincount(np.searchsorted(rising, genuine_scores), minlength=rising.size)[::-1]
    np.cumsum(true_accepts, out=true_accepts)
    falling = accepted[::-1]
    falling -= true_accepts
    return Roc(
        thresholds=rising[::-1],
        false_accepts=falling,
        true_accepts=true_accepts,
        num_impostor=impostor_scores.size,
        num_genuine=genuine_scores.size,
    )


def _distinct_with_infinity(first: FloatArray, second: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """The different values of two rising arrays, then infinity, and how many of all values lie below each."""
    # Everything is computed in few arrays and turned round by a view: with millions of scores most time goes into
    # memory that is touched for the first time.
    few, many = (first, second) if first.size < second.size else (second, first)
    places = np.searchsorted(many, few)
    joined = np.insert(many, np.append(places, many.size), np.append(few, np.inf))
    changes = np.empty(joined.size, np.bool_)
    changes[0] = True
    np.not_equal(joined[1:], joined[:-1], out=changes[1:])
    starts = np.flatnonzero(changes).astype(np.int64, copy=False)
    return (joined if starts.size == joined.size else joined[starts]), starts


def tar_at_far(roc: Roc, far: float) -> OperatingPoint:
    """The operating point at a target FAR; its own FAR never exceeds the target.

    Where even the highest score belongs to too many impostors, the threshold is the next number above it and nothing
    is accepted.

    Raises:
        MetricError: ``far`` is outside [0, 1].

    >>> point = tar_at_far(roc_curve([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], [1, 1, 0, 1, 0, 0]), 0.4)
    >>> round(point.tar, 3), round(point.far, 3), point.threshold, point.trusted
    (1.0, 0.333, 0.6, False)
    """
    if not 0.0 <= far <= 1.0:
        raise MetricError(f"a target FAR lies between 0 and 1, not {far}")
    index = index_at_far(roc, far)
    accepts_nothing = index == 0
    threshold = np.nextafter(roc.thresholds[1], np.inf) if accepts_nothing else roc.thresholds[index]
    true_accepts, false_accepts = int(roc.true_accepts[index]), int(roc.false_accepts[index])
    return OperatingPoint(
        far_target=far,
        tar=true_accepts / roc.num_genuine,
        far=false_accepts / roc.num_impostor,
        threshold=float(threshold),
        num_impostor=roc.num_impostor,
        num_genuine=roc.num_genuine,
        true_accepts=true_accepts,
        false_accepts=false_accepts,
        expected_errors=far * roc.num_impostor,
        # Divided, not multiplied: 30 / n rounds to the very number that a user writes for it, far * n need not.
        trusted=far >= _TRUSTED_ERRORS / roc.num_impostor,
        is_bound=is_bound(far, num_impostor=roc.num_impostor),
        far_upper=upper_bound(false_accepts, roc.num_impostor),
    )


def is_bound(far: float, *, num_impostor: int) -> bool:
    """Whether so many impostor pairs are too few to show a FAR: fewer than 3 errors are expected.

    >>> is_bound(1e-4, num_impostor=3000), is_bound(1e-3, num_impostor=3000)
    (True, False)
    """
    return far < _BOUND_ERRORS / num_impostor


def index_at_far(roc: Roc, far: float) -> int:
    """The place on the curve of the last threshold whose FAR does not exceed a target.

    >>> index_at_far(roc_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False]), 0.5)
    2
    """
    # A search that divides where it looks: dividing millions of counts for each target would cost more than the rest.
    return bisect_right(roc.false_accepts, far, key=lambda count: count / roc.num_impostor) - 1


def auc(roc: Roc) -> float:
    """Area under the ROC: the chance that a genuine pair scores above an impostor pair, ties counting half.

    Computed as the Mann-Whitney statistic in whole numbers, so it is exact up to one division.

    >>> auc(roc_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False]))
    0.875
    """
    here = np.flatnonzero(roc.true_accepts[1:] != roc.true_accepts[:-1]) + 1
    genuine_here = roc.true_accepts[here] - roc.true_accepts[here - 1]
    impostor_here = roc.false_accepts[here] - roc.false_accepts[here - 1]
    impostor_below = roc.num_impostor - roc.false_accepts[here]
    twice_wins = int(np.sum(genuine_here * (2 * impostor_below + impostor_here)))
    return twice_wins / (2 * roc.num_genuine * roc.num_impostor)


def eer(roc: Roc) -> float:
    """Equal error rate: where FAR = 1 - TAR on the ROC, its points joined by straight lines.

    >>> eer(roc_curve([0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [True, True, True, False, False, False]))
    0.3333333333333333
    """

    def rates(index: int) -> tuple[float, float]:
        far = float(roc.false_accepts[index]) / roc.num_impostor
        return far, 1.0 - float(roc.true_accepts[index]) / roc.num_genuine

    # far - miss_rate rises strictly from -1 to 1, so the first point past the crossing is never the first of all.
    after = bisect_left(range(roc.thresholds.size), 0.0, key=lambda index: rates(index)[0] - rates(index)[1])
    (far_before, miss_before), (far_after, miss_after) = rates(after - 1), rates(after)
    gap_before, gap_after = miss_before - far_before, far_after - miss_after
    share = gap_before / (gap_before + gap_after)
    return far_before + share * (far_after - far_before)


def far_label(far: float) -> str:
    """A FAR as it is written in metric names.

    >>> far_label(0.001), far_label(1e-5), far_label(0.0025)
    ('1e-3', '1e-5', '2.5e-3')
    """
    mantissa, _, exponent = f"{far:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
