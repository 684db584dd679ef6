"""The result of one verification set, computed from embeddings alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facerec.errors import MetricError
from facerec.evaluation.embed import Embeddings
from facerec.evaluation.names import FAR_TARGETS, MEAN, averaged, metric_key, tar_name, threshold_name
from facerec.metrics.bootstrap import identity_clusters
from facerec.metrics.protocols import (
    NUM_FOLDS,
    FoldVal,
    exact_kfold_accuracy,
    fold_of_pairs,
    kfold_accuracy,
    val_at_far,
)
from facerec.metrics.roc import OperatingPoint, auc, eer, roc_curve, tar_at_far
from facerec.metrics.similarity import compare_pairs, d_prime, normalise, norms

__all__ = ["VAL_FAR", "PairResult", "judge_pairs", "metric_values", "score_pairs"]

VAL_FAR = 1e-3
"""The FAR at which the field reports VAL."""

_LOWER_FAR_TARGETS = (1e-5, 1e-6)
"""Operating points of sets with enough impostor pairs to show them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairResult:
    """How a model does on one verification set."""

    name: str
    """Name of the set."""
    accuracy: float
    """10-fold accuracy by the protocol of arcface_torch, in [0, 1]."""
    accuracy_std: float
    """Standard deviation over the folds (ddof 0)."""
    fold_accuracy: NDArray[np.float64]
    """(10,)."""
    fold_threshold_sq_l2: NDArray[np.float64]
    """(10,): the protocol's thresholds on squared L2 distances."""
    auc: float
    """Area under the ROC."""
    eer: float
    """Equal error rate."""
    operating_points: tuple[OperatingPoint, ...]
    """At FAR 1e-1 to 1e-4, and 1e-5 and 1e-6 where the impostor pairs are enough to show them."""
    xnorm: float
    """Mean L2 norm of the embeddings before normalisation, mirrored images included."""
    d_prime: float
    """Separation of genuine and impostor scores; infinite where neither kind varies."""
    pairs: int
    """Number of pairs."""
    genuine: int
    """Number of genuine pairs."""
    sha256: str
    """Hash of the file that the pairs come from."""
    scores: NDArray[np.float64]
    """(P,), cosines."""
    issame: NDArray[np.bool_]
    """(P,)."""
    distances: NDArray[np.float64]
    """(P,), squared L2 distances, which the protocols of the field use."""
    correct: NDArray[np.bool_]
    """(P,): whether the pair is decided correctly at the threshold of its fold."""
    people: NDArray[np.int64]
    """(P, 2): who is in the images, as given or as far as the genuine pairs tell."""
    identities_known: bool
    """Whether ``people`` were given."""
    accuracy_exact: float
    """10-fold accuracy without the grid of thresholds."""
    accuracy_exact_std: float
    """Its standard deviation over the folds (ddof 0)."""
    val: FoldVal | None
    """VAL at FAR 1e-3 as arcface_torch reports it; None where a fold lacks a kind of pair."""

    def at_far(self, far: float) -> OperatingPoint:
        """The operating point at one of `FAR_TARGETS`."""
        return next(point for point in self.operating_points if point.far_target == far)


def score_pairs(
    embeddings: Embeddings,
    *,
    pair_index: NDArray[np.integer],
    issame: NDArray[np.bool_],
    name: str,
    sha256: str,
    identity: NDArray[np.integer] | None = None,
) -> PairResult:
    """Compute every metric of a set.

    The embedding of an image is the sum of the original's and the mirrored one's, then normalised, in float64.

    Shape: embeddings (N, D); ``pair_index`` (P, 2), rows of the embeddings; ``issame`` (P,); ``identity`` (N,).

    Raises:
        MetricError: fewer than 10 pairs, only one kind of pair, or embeddings that are not finite; the message names
            the set.
    """
    try:
        versions = [embeddings.original] if embeddings.flipped is None else [embeddings.original, embeddings.flipped]
        uses = np.bincount(pair_index.ravel(), minlength=len(embeddings.original))
        rows = pair_index
        if not uses.all():
            chosen = np.flatnonzero(uses)
            rows = np.searchsorted(chosen, pair_index)
            versions, uses = [version[chosen] for version in versions], uses[chosen]
        # Norms count once for each use of an image, as where the set stores an image once for each of its pairs.
        xnorm = float(np.mean([np.average(norms(version), weights=uses) for version in versions]))
        normalised = normalise(versions[0] if len(versions) == 1 else np.add(*versions, dtype=np.float64))
        scores, distances = compare_pairs(normalised, rows)
        people = identity_clusters(pair_index, issame) if identity is None else identity[pair_index]
        return judge_pairs(
            scores,
            distances,
            issame=np.asarray(issame, dtype=np.bool_),
            people=people.astype(np.int64),
            identities_known=identity is not None,
            xnorm=xnorm,
            name=name,
            sha256=sha256,
        )
    except MetricError as error:
        raise MetricError(f"{name}: {error}") from error


def judge_pairs(
    scores: NDArray[np.float64],
    distances: NDArray[np.float64],
    *,
    issame: NDArray[np.bool_],
    people: NDArray[np.int64],
    identities_known: bool,
    xnorm: float,
    name: str,
    sha256: str,
) -> PairResult:
    """Every metric of pairs whose similarity is known; see `PairResult` for the shapes.

    Raises:
        MetricError: as `score_pairs`.
    """
    roc = roc_curve(scores, issame)
    folds = kfold_accuracy(distances, issame)
    exact = exact_kfold_accuracy(distances, issame)
    thresholds = folds.fold_threshold_sq_l2[fold_of_pairs(len(issame), len(folds.fold_accuracy))]
    points = [tar_at_far(roc, far) for far in FAR_TARGETS]
    points += [point for point in (tar_at_far(roc, far) for far in _LOWER_FAR_TARGETS) if not point.is_bound]
    return PairResult(
        name=name,
        accuracy=folds.accuracy,
        accuracy_std=folds.accuracy_std,
        fold_accuracy=folds.fold_accuracy,
        fold_threshold_sq_l2=folds.fold_threshold_sq_l2,
        auc=auc(roc),
        eer=eer(roc),
        operating_points=tuple(points),
        xnorm=xnorm,
        d_prime=d_prime(scores, issame),
        pairs=len(issame),
        genuine=int(np.count_nonzero(issame)),
        sha256=sha256,
        scores=scores,
        issame=issame,
        distances=distances,
        correct=(distances < thresholds) == issame,
        people=people,
        identities_known=identities_known,
        accuracy_exact=exact.accuracy,
        accuracy_exact_std=exact.accuracy_std,
        val=_val(distances, issame),
    )


def _val(distances: NDArray[np.float64], issame: NDArray[np.bool_]) -> FoldVal | None:
    folds = fold_of_pairs(len(issame), NUM_FOLDS)
    genuine = np.bincount(folds, weights=issame)
    if (genuine == 0).any() or (genuine == np.bincount(folds)).any():
        return None
    return val_at_far(distances, issame, far=VAL_FAR)


def metric_values(results: Sequence[PairResult]) -> dict[str, float]:
    """Results as curves: ``eval/<set>/<metric>`` and, of several sets, ``eval/mean/<metric>``; finite values only."""
    per_set = [dict(_metrics(result)) for result in results]
    values = {
        metric_key(result.name, metric): value
        for result, metrics in zip(results, per_set, strict=True)
        for metric, value in metrics.items()
    }
    if len(results) > 1:
        for metric in per_set[0]:
            if averaged(metric) and all(metric in metrics for metrics in per_set):
                values[metric_key(MEAN, metric)] = math.fsum(metrics[metric] for metrics in per_set) / len(per_set)
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _metrics(result: PairResult) -> Iterator[tuple[str, float]]:
    yield "accuracy", result.accuracy
    yield "accuracy_std", result.accuracy_std
    yield "auc", result.auc
    yield "eer", result.eer
    yield "d_prime", result.d_prime
    yield "xnorm", result.xnorm
    for point in result.operating_points:
        yield tar_name(point.far_target), point.tar
        yield threshold_name(point.far_target), point.threshold
