"""Whether one model is better than another on the same pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facerec.errors import MetricError
from facerec.metrics.bootstrap import Counts, SortedPairs, check_resampling, draw_over_identities
from facerec.metrics.checks import BoolArray, FloatArray, check_labels, check_pairs
from facerec.metrics.intervals import Interval
from facerec.metrics.roc import Roc

__all__ = ["Difference", "McNemar", "mcnemar_exact", "paired_bootstrap"]


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Pairs on which exactly one of two models is right."""

    only_first: int
    only_second: int
    p_value: float
    """Two-sided: the chance of a split at least as uneven if both models were equally good."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much larger a statistic of the first model is than of the second."""

    difference: float
    interval: Interval
    """Percentile interval; if it does not hold 0, the models differ at its confidence."""


def mcnemar_exact(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """McNemar's exact test: do two models err equally often on the same pairs?

    Shape: both (P,) bool, whether the model decided the pair correctly.

    Raises:
        MetricError: the shapes differ or a value is not 0 or 1.

    Source: McNemar 1947, Psychometrika 12(2), with the binomial distribution in place of its approximation.

    >>> mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    from scipy.special import bdtr

    first, second = check_labels(first_correct), check_labels(second_correct)
    if first.shape != second.shape or first.size == 0:
        raise MetricError(f"both models must have decided the same pairs, not {first.size} and {second.size}")
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    tail = float(bdtr(min(only_first, only_second), only_first + only_second, 0.5))
    return McNemar(only_first=only_first, only_second=only_second, p_value=min(1.0, 2.0 * tail))


def paired_bootstrap(
    statistic: Callable[[Roc], float],
    first_scores: ArrayLike,
    second_scores: ArrayLike,
    *,
    genuine: ArrayLike,
    identities: ArrayLike | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Interval of the difference of a statistic between two models scored on the same pairs.

    Both models see the same resamples, so that what makes pairs hard for both cancels out. People are drawn where they
    are known; otherwise pairs, genuine and impostor ones separately, each as many as there are.

    Args:
        statistic: Of a ROC, such as `facerec.metrics.roc.auc`.
        first_scores: (P,), real.
        second_scores: (P,), real.
        genuine: (P,), bool.
        identities: (P, 2), integers: the person in each image of a pair; see
            `facerec.metrics.bootstrap.draw_over_identities`.
        num_resamples: Number of resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: The same seed gives the same interval.

    Raises:
        MetricError: see `facerec.metrics.checks.check_pairs`.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13.

    >>> from facerec.metrics.roc import auc
    >>> paired_bootstrap(auc, [0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.8, 0.9], genuine=[1, 1, 0, 0])
    Difference(difference=1.0, interval=Interval(low=1.0, high=1.0))
    """
    _, labels = check_pairs(first_scores, genuine)
    first, second = SortedPairs(first_scores, genuine), SortedPairs(second_scores, genuine)
    check_resampling(num_resamples, confidence)

    def measure(counts: Counts) -> FloatArray:
        return np.array([statistic(first.roc(counts)) - statistic(second.roc(counts))])

    if identities is None:
        values = _draw_pairs(measure, labels, num_resamples=num_resamples, seed=seed)
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(values, (tail, 1.0 - tail))
    else:
        people = np.asarray(identities)
        draws = draw_over_identities(measure, genuine=labels, people=people, num_resamples=num_resamples, seed=seed)
        (low,), (high,) = draws.interval(confidence=confidence)
    (difference,) = measure(np.ones(labels.size, np.int64))
    return Difference(difference=float(difference), interval=Interval(float(low), float(high)))


def _draw_pairs(
    measure: Callable[[Counts], FloatArray], labels: BoolArray, *, num_resamples: int, seed: int
) -> FloatArray:
    kinds = [np.flatnonzero(labels), np.flatnonzero(~labels)]
    generator = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    for index in range(num_resamples):
        drawn = np.concatenate([generator.choice(kind, size=kind.size) for kind in kinds])
        values[index] = measure(np.bincount(drawn, minlength=labels.size))[0]
    return values
