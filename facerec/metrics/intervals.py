"""How far a measured rate can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import BoolArray, FloatArray, check_pairs

__all__ = ["Interval", "bootstrap_over_identities", "clopper_pearson", "upper_bound"]

Statistic = Callable[[FloatArray, BoolArray], float]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a rate of which ``successes`` of ``trials`` were seen; it covers at least ``confidence``.

    Raises:
        MetricError: no trials, more successes than trials, or a confidence outside (0, 1).

    Source: Clopper and Pearson 1934, Biometrika 26(4).

    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    _check_counts(successes, trials, confidence)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, trials - successes + 1)
    high = 1.0 if successes == trials else _beta_quantile(1.0 - tail, successes + 1, trials - successes)
    return Interval(low, high)


def upper_bound(successes: int, trials: int, *, confidence: float = 0.95) -> float:
    """Largest rate that ``successes`` of ``trials`` leaves plausible: the one-sided form of `clopper_pearson`.

    Without any success it is about 3 / ``trials``, the "rule of three".

    Raises:
        MetricError: see `clopper_pearson`.

    >>> round(upper_bound(0, 3000) * 3000, 2)
    2.99
    """
    _check_counts(successes, trials, confidence)
    return 1.0 if successes == trials else _beta_quantile(confidence, successes + 1, trials - successes)


def bootstrap_over_identities(
    statistic: Statistic,
    scores: ArrayLike,
    genuine: ArrayLike,
    *,
    identities: ArrayLike,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic when people, not pairs, are what was sampled.

    Pairs of one person are not independent, so whole people are drawn with replacement. A genuine pair counts as often
    as its person was drawn, an impostor pair as often as the product of both. Resamples without genuine or impostor
    pairs are drawn again.

    Args:
        statistic: Function of (scores, genuine), such as ``lambda s, g: auc(roc_curve(s, g))``.
        scores: (P,), real.
        genuine: (P,), bool.
        identities: (P, 2), integers: the person in each image of the pair; equal exactly in genuine pairs.
        num_resamples: Number of resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: The same seed gives the same interval.

    Raises:
        MetricError: the input contradicts itself.

    Source: Bolle, Ratha and Pankanti 2004 (subsets bootstrap); Davison and Hinkley 1997, section 5.3.

    >>> scores, genuine = [0.9, 0.8, 0.7, 0.2, 0.1, 0.3], [1, 1, 1, 0, 0, 0]
    >>> people = [[0, 0], [1, 1], [2, 2], [0, 1], [1, 2], [0, 2]]
    >>> mean_gap = lambda s, g: float(s[g].mean() - s[~g].mean())
    >>> low, high = bootstrap_over_identities(mean_gap, scores, genuine, identities=people, num_resamples=50)
    >>> low <= 0.6 <= high
    True
    """
    values, labels = check_pairs(scores, genuine)
    people = _check_identities(identities, labels)
    if num_resamples < 1 or not 0.0 < confidence < 1.0:
        raise MetricError("a bootstrap needs at least one resample and a confidence between 0 and 1")
    generator = np.random.default_rng(seed)
    draws = np.empty(num_resamples)
    for index in range(num_resamples):
        weights = _draw_weights(generator, people, labels)
        draws[index] = statistic(np.repeat(values, weights), np.repeat(labels, weights))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws, (tail, 1.0 - tail))
    return Interval(float(low), float(high))


def _draw_weights(generator: np.random.Generator, people: NDArray[np.intp], labels: BoolArray) -> NDArray[np.int64]:
    num_people = int(people.max()) + 1
    # One genuine and one impostor pair involve three people at most, whom a fifth of all resamples hold or more.
    while True:
        counts = np.bincount(generator.integers(num_people, size=num_people), minlength=num_people)
        first, second = counts[people[:, 0]], counts[people[:, 1]]
        weights = np.where(labels, first, first * second)
        if weights[labels].any() and weights[~labels].any():
            return weights


def _check_identities(identities: ArrayLike, labels: BoolArray) -> NDArray[np.intp]:
    given = np.asarray(identities)
    if given.shape != (labels.size, 2) or given.dtype.kind not in "iu":
        raise MetricError(f"identities must be integers of shape ({labels.size}, 2), one for each image of a pair")
    if not np.array_equal(given[:, 0] == given[:, 1], labels):
        raise MetricError("identities contradict the labels: a pair is genuine exactly if both images show one person")
    return np.unique(given, return_inverse=True)[1].reshape(given.shape)


def _beta_quantile(probability: float, a: int, b: int) -> float:
    # scipy.special, not scipy.stats: the latter takes a second to import.
    from scipy.special import betaincinv

    return float(betaincinv(a, b, probability))


def _check_counts(successes: int, trials: int, confidence: float) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise MetricError(f"a rate needs 0 <= successes <= trials and trials >= 1, not {successes} of {trials}")
    if not 0.0 < confidence < 1.0:
        raise MetricError(f"confidence must lie between 0 and 1, not {confidence}")
