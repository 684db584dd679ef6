"""Intervals for people as what was sampled, for several statistics at once.

Pairs that share a person are not independent. People are drawn with replacement; a pair within one person counts as
often as that person was drawn, a pair of two as often as the product of both. That product carries the chance of a
single pair three times: once for each person and once for their meeting. Where people meet in one pair only, as in
most published pair sets, intervals from it alone would be far too wide, so what the single impostor pairs add is
measured by drawing them alone and taken off.

That takes off too much where nearly everybody meets everybody and whatever raises a person's genuine scores raises the
impostor scores just as much, so that people cancel out of the statistic: there intervals come out too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import BoolArray, FloatArray, check_pairs
from facerec.metrics.intervals import Interval
from facerec.metrics.roc import Roc

__all__ = [
    "Counts",
    "Draws",
    "SortedPairs",
    "Statistic",
    "bootstrap_over_identities",
    "check_resampling",
    "draw_over_identities",
    "identity_clusters",
]

Statistic = Callable[[FloatArray, BoolArray], float]
"""From scores and labels of pairs to a number."""

Counts = NDArray[np.int64]
"""(P,): how often each pair is in a resample."""

_PAIR_EXCESS = 2.0
"""Product weights have the variance 3 where an independent pair has 1 (Owen 2007, section 4)."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Statistics of resamples, spread as those of new people would be."""

    estimate: FloatArray
    """(S,): of the pairs themselves."""
    values: FloatArray
    """(R, S)."""
    num_people: int
    """How many were drawn in each resample."""

    def interval(self, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Expanded percentile interval of each statistic: lower and upper ends, (S,) each.

        Percentiles of few people are too narrow, as a normal quantile is in place of Student's t; both ends are moved
        away from the median by that ratio.

        Source: Hesterberg 2015, "What teachers should know about the bootstrap", section 3.2 and 5.3.
        """
        from scipy.special import ndtri, stdtrit

        tail = (1.0 - confidence) / 2.0
        low, middle, high = np.quantile(self.values, (tail, 0.5, 1.0 - tail), axis=0)
        freedom = max(1, self.num_people - 1)
        factor = float(stdtrit(freedom, 1.0 - tail) / ndtri(1.0 - tail)) * np.sqrt(1.0 + 1.0 / freedom)
        return middle + factor * (low - middle), middle + factor * (high - middle)


class SortedPairs:
    """Pairs sorted once, whose ROC under any counts then takes two sums."""

    def __init__(self, scores: ArrayLike, genuine: ArrayLike) -> None:
        values, labels = check_pairs(scores, genuine)
        self._order = np.argsort(values)[::-1]
        values = values[self._order]
        self._labels = labels[self._order]
        self._last_of_tie = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
        self._thresholds = np.concatenate(([np.inf], values[self._last_of_tie]))

    def roc(self, counts: Counts) -> Roc:
        """The ROC in which pair ``p`` is there ``counts[p]`` times; thresholds without a pair stay as points."""
        sorted_counts = counts[self._order]
        genuine = self._accumulate(np.where(self._labels, sorted_counts, 0))
        impostor = self._accumulate(np.where(self._labels, 0, sorted_counts))
        return Roc(
            thresholds=self._thresholds,
            false_accepts=impostor,
            true_accepts=genuine,
            num_impostor=int(impostor[-1]),
            num_genuine=int(genuine[-1]),
        )

    def _accumulate(self, counts: Counts) -> Counts:
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)[self._last_of_tie]))


def draw_over_identities(
    measure: Callable[[Counts], FloatArray],
    *,
    genuine: BoolArray,
    people: NDArray[np.integer],
    num_resamples: int = 1000,
    seed: int = 0,
) -> Draws:
    """Draw people, and measure each resample.

    Args:
        measure: From the counts of the pairs (P,) to statistics (S,).
        genuine: (P,).
        people: (P, 2), integers: who is in each image of the pair.
        num_resamples: Number of resamples.
        seed: The same seed gives the same draws.

    Raises:
        MetricError: there are no resamples, or the shapes differ.

    Source: Bolle, Ratha and Pankanti 2004 (subsets bootstrap); Owen 2007, "The pigeonhole bootstrap".

    >>> scores, genuine = np.array([0.9, 0.7, 0.2, 0.4]), np.array([True, True, False, False])
    >>> def means(counts):
    ...     return np.array([np.average(scores[kind], weights=counts[kind]) for kind in (genuine, ~genuine)])
    >>> people = np.array([[0, 0], [1, 1], [0, 1], [0, 1]])
    >>> draw_over_identities(means, genuine=genuine, people=people, num_resamples=5).estimate.round(3)
    array([0.8, 0.3])
    """
    check_resampling(num_resamples)
    if people.shape != (genuine.size, 2):
        raise MetricError(f"people must have the shape ({genuine.size}, 2), one for each image of a pair")
    codes = np.unique(people, return_inverse=True)[1].reshape(people.shape)
    generator = np.random.default_rng(seed)
    estimate = measure(np.ones(genuine.size, np.int64))
    by_people = np.stack([measure(_people_counts(generator, codes, genuine)) for _ in range(num_resamples)])
    by_pairs = np.stack([measure(_impostor_counts(generator, codes, genuine)) for _ in range(num_resamples)])
    return Draws(estimate=estimate, values=_without_excess(by_people, by_pairs), num_people=int(codes.max()) + 1)


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
    """Percentile interval of any statistic when people, not pairs, are what was sampled.

    Resamples without genuine or impostor pairs are drawn again.

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

    Source: see `draw_over_identities`.

    >>> scores, genuine = [0.9, 0.8, 0.7, 0.2, 0.1, 0.3], [1, 1, 1, 0, 0, 0]
    >>> people = [[0, 0], [1, 1], [2, 2], [0, 1], [1, 2], [0, 2]]
    >>> mean_gap = lambda s, g: float(s[g].mean() - s[~g].mean())
    >>> low, high = bootstrap_over_identities(mean_gap, scores, genuine, identities=people, num_resamples=50)
    >>> low <= 0.6 <= high
    True
    """
    values, labels = check_pairs(scores, genuine)
    check_resampling(num_resamples, confidence)
    people = _check_identities(identities, labels)

    def measure(counts: Counts) -> FloatArray:
        return np.array([statistic(np.repeat(values, counts), np.repeat(labels, counts))])

    draws = draw_over_identities(measure, genuine=labels, people=people, num_resamples=num_resamples, seed=seed)
    low, high = draws.interval(confidence=confidence)
    return Interval(float(low[0]), float(high[0]))


def identity_clusters(pair_index: ArrayLike, genuine: ArrayLike) -> NDArray[np.int64]:
    """Who is in each pair, as far as the genuine pairs tell: images joined by genuine pairs are one person.

    A person whose images occur in impostor pairs alone counts as one person per image.

    Shape: ``pair_index`` (P, 2), integers from 0 on: the image in each place; ``genuine`` (P,); gives (P, 2).

    Raises:
        MetricError: the shapes differ or an index is negative.

    >>> identity_clusters([[0, 1], [1, 2], [2, 3]], [True, True, False])
    array([[0, 0],
           [0, 0],
           [0, 1]])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs, labels = np.asarray(pair_index), np.asarray(genuine, dtype=np.bool_)
    if pairs.ndim != 2 or pairs.shape != (labels.size, 2) or pairs.dtype.kind not in "iu" or pairs.size == 0:
        raise MetricError(f"pair_index must be integers of shape ({labels.size}, 2), not of shape {pairs.shape}")
    if pairs.min() < 0:
        raise MetricError("pair_index holds a negative index")
    images, codes = np.unique(pairs, return_inverse=True)
    codes = codes.reshape(pairs.shape)
    joined = codes[labels]
    graph = coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(images.size, images.size))
    _, component = connected_components(graph, directed=False)
    return component.astype(np.int64)[codes]


def check_resampling(num_resamples: int, confidence: float = 0.95) -> None:
    """Raise a `MetricError` unless a bootstrap is possible.

    >>> check_resampling(1000)
    """
    if num_resamples < 1 or not 0.0 < confidence < 1.0:
        raise MetricError("a bootstrap needs at least one resample and a confidence between 0 and 1")


def _people_counts(generator: np.random.Generator, people: NDArray[np.intp], genuine: BoolArray) -> Counts:
    num_people = int(people.max()) + 1
    # One genuine and one impostor pair involve three people at most, whom a fifth of all resamples hold or more.
    while True:
        drawn = np.bincount(generator.integers(num_people, size=num_people), minlength=num_people)
        first, second = drawn[people[:, 0]], drawn[people[:, 1]]
        counts = np.where(people[:, 0] == people[:, 1], first, first * second)
        if counts[genuine].any() and counts[~genuine].any():
            return counts


def _impostor_counts(generator: np.random.Generator, people: NDArray[np.intp], genuine: BoolArray) -> Counts:
    """Only pairs of two people are drawn, each for itself."""
    counts = np.ones(genuine.size, np.int64)
    drawable = np.flatnonzero(people[:, 0] != people[:, 1])
    if drawable.size:
        counts[drawable] = np.bincount(generator.integers(drawable.size, size=drawable.size), minlength=drawable.size)
    return counts


def _without_excess(by_people: FloatArray, by_pairs: FloatArray) -> FloatArray:
    """Draw the resamples of people together until single pairs weigh once in their variance."""
    of_people, of_pairs = by_people.var(axis=0), by_pairs.var(axis=0)
    # Sampling noise may make the difference small or negative; single pairs alone are the least there is.
    wanted = np.maximum(of_people - _PAIR_EXCESS * of_pairs, np.minimum(of_pairs, of_people))
    shrink = np.sqrt(np.divide(wanted, of_people, out=np.ones_like(wanted), where=of_people > 0.0))
    centre = by_people.mean(axis=0)
    return centre + shrink * (by_people - centre)


def _check_identities(identities: ArrayLike, labels: BoolArray) -> NDArray[np.integer]:
    given = np.asarray(identities)
    if given.shape != (labels.size, 2) or given.dtype.kind not in "iu":
        raise MetricError(f"identities must be integers of shape ({labels.size}, 2), one for each image of a pair")
    if not np.array_equal(given[:, 0] == given[:, 1], labels):
        raise MetricError("identities contradict the labels: a pair is genuine exactly if both images show one person")
    return given
