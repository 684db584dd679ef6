"""The ROC of verification scores and what is read off it: TAR at a FAR, AUC, EER.

Scores are similarities, a higher one more alike; in this project they are cosines. A threshold t accepts every pair
with score >= t. TAR is the accepted fraction of the genuine pairs, FAR that of the impostor pairs. Everything follows
from exact counts at every distinct score, so ties cannot be split and no grid of thresholds limits the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import FloatArray, check_pairs
from facerec.metrics.intervals import upper_bound

__all__ = ["OperatingPoint", "Roc", "auc", "eer", "far_label", "roc_curve", "tar_at_far"]

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
    order = np.argsort(values)[::-1]
    values, labels = values[order], labels[order]
    last_of_tie = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    true_accepts = np.cumsum(labels, dtype=np.int64)[last_of_tie]
    false_accepts = last_of_tie + 1 - true_accepts
    return Roc(
        thresholds=np.concatenate(([np.inf], values[last_of_tie])),
        false_accepts=np.concatenate((np.zeros(1, np.int64), false_accepts)),
        true_accepts=np.concatenate((np.zeros(1, np.int64), true_accepts)),
        num_impostor=int(false_accepts[-1]),
        num_genuine=int(true_accepts[-1]),
    )


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
    index = int(np.searchsorted(roc.far, far, side="right")) - 1
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
        is_bound=far < _BOUND_ERRORS / roc.num_impostor,
        far_upper=upper_bound(false_accepts, roc.num_impostor),
    )


def auc(roc: Roc) -> float:
    """Area under the ROC: the chance that a genuine pair scores above an impostor pair, ties counting half.

    Computed as the Mann-Whitney statistic in whole numbers, so it is exact up to one division.

    >>> auc(roc_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False]))
    0.875
    """
    genuine_here = np.diff(roc.true_accepts)
    impostor_here = np.diff(roc.false_accepts)
    impostor_below = roc.num_impostor - roc.false_accepts[1:]
    twice_wins = int(np.sum(genuine_here * (2 * impostor_below + impostor_here)))
    return twice_wins / (2 * roc.num_genuine * roc.num_impostor)


def eer(roc: Roc) -> float:
    """Equal error rate: where FAR = 1 - TAR on the ROC, its points joined by straight lines.

    >>> eer(roc_curve([0.9, 0.8, 0.4, 0.7, 0.2, 0.1], [True, True, True, False, False, False]))
    0.3333333333333333
    """
    far, miss_rate = roc.far, 1.0 - roc.tar
    # far - miss_rate rises strictly from -1 to 1, so the first point past the crossing is never the first of all.
    after = int(np.argmax(far >= miss_rate))
    before = after - 1
    gap_before, gap_after = miss_rate[before] - far[before], far[after] - miss_rate[after]
    share = gap_before / (gap_before + gap_after)
    return float(far[before] + share * (far[after] - far[before]))


def far_label(far: float) -> str:
    """A FAR as it is written in metric names.

    >>> far_label(0.001), far_label(1e-5), far_label(0.0025)
    ('1e-3', '1e-5', '2.5e-3')
    """
    mantissa, _, exponent = f"{far:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
