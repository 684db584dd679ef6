"""One-to-many search: how often the right person is found, and how often a stranger is.

Source: ISO/IEC 19795-1; Grother and Ngan, NIST FRVT 1:N (NISTIR 8271): CMC, FPIR and FNIR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import BoolArray, FloatArray
from facerec.metrics.intervals import Interval, clopper_pearson
from facerec.metrics.roc import roc_curve, tar_at_far

__all__ = ["OpenSetPoint", "RankRate", "SearchResult", "open_set_point", "rank_rate", "search"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """What each probe found in a gallery.

    Shape: every array (Q,), one value for each probe.
    """

    mated: BoolArray
    """Whether the probe's person is in the gallery."""
    rank: NDArray[np.int64]
    """Place of the probe's person among all people, from 1 on; 0 for a probe that is not mated."""
    mate_score: FloatArray
    """Similarity to the probe's person, -inf for a probe that is not mated."""
    top_score: FloatArray
    """Highest similarity to anybody."""
    num_people: int
    """People in the gallery."""


@dataclass(frozen=True, kw_only=True)
class RankRate:
    """Share of mated probes whose person is among the first few: a point of the CMC."""

    rank: int
    rate: float
    found: int
    num_mated: int
    interval: Interval
    """95 %, Clopper-Pearson."""


@dataclass(frozen=True, kw_only=True)
class OpenSetPoint:
    """Misses at a threshold that strangers pass no more often than a target."""

    fpir_target: float
    fnir: float
    """Mated probes whose person is not first, or scores below the threshold."""
    tpir: float
    """1 - ``fnir``."""
    fpir: float
    """Strangers with somebody at or above the threshold; at most ``fpir_target``."""
    threshold: float
    misses: int
    num_mated: int
    num_strangers: int
    fnir_interval: Interval
    """95 %, Clopper-Pearson."""
    trusted: bool
    """At least 30 false positives are expected at the target."""
    is_bound: bool
    """Fewer than 3 are expected: the strangers are too few to show the target."""


def search(
    similarity: Callable[[slice], FloatArray],
    *,
    gallery_people: ArrayLike,
    probe_people: ArrayLike,
    chunk_size: int = 1024,
) -> SearchResult:
    """Look every probe up in a gallery, some probes at a time.

    A person with several entries counts with the best of them. Others that tie with the probe's person stand before
    it, so that equal scores never flatter.

    Args:
        similarity: From a slice of the probes to their similarities with all entries of the gallery, (q, G).
        gallery_people: (G,), integers: who each entry is.
        probe_people: (Q,), integers.
        chunk_size: Probes at a time.

    Raises:
        MetricError: a side is empty, or a similarity is not finite.

    >>> scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.4, 0.6], [0.5, 0.1, 0.2]])
    >>> found = search(lambda some: scores[some], gallery_people=[7, 8, 9], probe_people=[7, 8, 5])
    >>> found.rank, found.top_score
    (array([1, 2, 0]), array([0.9, 0.6, 0.5]))
    """
    gallery, probes = _check_people(gallery_people, "gallery"), _check_people(probe_people, "probes")
    order = np.argsort(gallery, kind="stable")
    people, starts = np.unique(gallery[order], return_index=True)
    place = np.searchsorted(people, probes).clip(max=people.size - 1)
    mated = people[place] == probes
    rank = np.zeros(probes.size, np.int64)
    mate_score, top_score = np.full(probes.size, -np.inf), np.empty(probes.size)
    for some in _slices(probes.size, chunk_size):
        scores = similarity(some)
        if not np.isfinite(scores).all():
            raise MetricError("a similarity of a probe is not finite; check the model's embeddings")
        best_QP = np.maximum.reduceat(scores[:, order], starts, axis=1)
        mates = best_QP[np.arange(len(best_QP)), place[some]]
        top_score[some] = best_QP.max(axis=1)
        mate_score[some] = np.where(mated[some], mates, -np.inf)
        # The person itself is one of those that reach its own score.
        rank[some] = np.where(mated[some], np.count_nonzero(best_QP >= mates[:, None], axis=1), 0)
    return SearchResult(mated=mated, rank=rank, mate_score=mate_score, top_score=top_score, num_people=people.size)


def rank_rate(result: SearchResult, rank: int) -> RankRate:
    """The CMC at one rank: the closed-set identification rate.

    Raises:
        MetricError: no probe is mated, or the rank is below 1.

    >>> scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.4, 0.6]])
    >>> found = search(lambda some: scores[some], gallery_people=[7, 8, 9], probe_people=[7, 8])
    >>> rank_rate(found, 1).rate, rank_rate(found, 2).rate
    (0.5, 1.0)
    """
    if rank < 1:
        raise MetricError(f"ranks count from 1, not {rank}")
    num_mated = _count_mated(result)
    found = int(np.count_nonzero(result.mated & (result.rank <= rank)))
    return RankRate(
        rank=rank,
        rate=found / num_mated,
        found=found,
        num_mated=num_mated,
        interval=clopper_pearson(found, num_mated),
    )


def open_set_point(results: Sequence[SearchResult], fpir: float) -> OpenSetPoint:
    """FNIR at the most permissive threshold whose FPIR does not exceed a target.

    Several results are searches of one experiment, such as those of two galleries, whose probes count together.

    Raises:
        MetricError: no probe is mated or none is a stranger, or the target lies outside [0, 1].

    >>> scores = np.array([[0.9, 0.1], [0.2, 0.4], [0.5, 0.1], [0.3, 0.2]])
    >>> found = search(lambda some: scores[some], gallery_people=[7, 8], probe_people=[7, 8, 5, 5])
    >>> point = open_set_point([found], 0.5)
    >>> point.threshold, point.fpir, point.fnir
    (0.4, 0.5, 0.0)
    """
    mated = np.concatenate([result.mated for result in results])
    num_mated = sum(map(_count_mated, results))
    if mated.all():
        raise MetricError("every probe is in the gallery; an open-set rate needs strangers")
    mate = np.concatenate([result.mate_score for result in results])[mated]
    rank = np.concatenate([result.rank for result in results])[mated]
    strangers = np.concatenate([result.top_score for result in results])[~mated]
    labels = np.concatenate((np.ones(mate.size, np.bool_), np.zeros(strangers.size, np.bool_)))
    point = tar_at_far(roc_curve(np.concatenate((mate, strangers)), labels), fpir)
    misses = int(np.count_nonzero((rank != 1) | (mate < point.threshold)))
    return OpenSetPoint(
        fpir_target=fpir,
        fnir=misses / num_mated,
        tpir=1.0 - misses / num_mated,
        fpir=point.far,
        threshold=point.threshold,
        misses=misses,
        num_mated=num_mated,
        num_strangers=strangers.size,
        fnir_interval=clopper_pearson(misses, num_mated),
        trusted=point.trusted,
        is_bound=point.is_bound,
    )


def _check_people(people: ArrayLike, what: str) -> NDArray[np.int64]:
    given = np.asarray(people)
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "iu":
        raise MetricError(f"the people of the {what} must be integers, at least one, not of shape {given.shape}")
    return given.astype(np.int64, copy=False)


def _count_mated(result: SearchResult) -> int:
    num_mated = int(np.count_nonzero(result.mated))
    if num_mated == 0:
        raise MetricError("no probe is in the gallery; an identification rate needs mated probes")
    return num_mated


def _slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))
