"""From embeddings to one number per pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import FloatArray, check_pairs

__all__ = ["compare_pairs", "cosines", "d_prime", "normalise", "norms", "squared_distances"]

_ROWS = 512


def normalise(embeddings: ArrayLike) -> FloatArray:
    """Scale every embedding to length 1, in float64.

    Shape: (N, D) in and out. A zero embedding stays zero, as in scikit-learn's ``normalize``: it has no direction, its
    cosine with everything is 0.

    Raises:
        MetricError: the shape is another one or a value is not finite.

    >>> normalise([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    values = _check_embeddings(embeddings)
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))
    lengths[lengths == 0.0] = 1.0
    return values / lengths[:, None]


def cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """Cosine of each pair of *normalised* embeddings: (P, D), (P, D) to (P,) float64 in [-1, 1].

    >>> cosines(normalise([[1.0, 0.0], [2.0, 2.0]]), normalise([[0.0, 3.0], [1.0, 1.0]])).round(6)
    array([0., 1.])
    """
    _check_same_shape(first, second)
    return np.clip(np.einsum("pd,pd->p", first, second), -1.0, 1.0)


def squared_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared L2 distance of each pair of embeddings: (P, D), (P, D) to (P,) float64.

    For normalised embeddings this is 2 - 2 cos, in [0, 4].

    >>> squared_distances(normalise([[1.0, 0.0]]), normalise([[-2.0, 0.0]]))
    array([4.])
    """
    _check_same_shape(first, second)
    distances = np.empty(len(first))
    # A few rows at a time stay in the cache; fresh memory for all of them would cost more than the arithmetic.
    for start in range(0, len(first), _ROWS):
        some = slice(start, start + _ROWS)
        difference = first[some] - second[some]
        # Summed as in arcface_torch: another order of summation can move a distance across a threshold.
        distances[some] = np.sum(np.square(difference, out=difference), axis=1)
    return distances


def compare_pairs(embeddings: FloatArray, pair_rows: NDArray[np.integer]) -> tuple[FloatArray, FloatArray]:
    """`cosines` and `squared_distances` of pairs of rows: (N, D), (P, 2) to (P,) each.

    >>> cosine, distance = compare_pairs(normalise([[1.0, 0.0], [0.0, 2.0]]), np.array([[0, 1], [1, 1]]))
    >>> cosine, distance
    (array([0., 1.]), array([2., 0.]))
    """
    found = np.empty((2, len(pair_rows)))
    for start in range(0, len(pair_rows), _ROWS):
        rows = pair_rows[start : start + _ROWS]
        first, second = embeddings[rows[:, 0]], embeddings[rows[:, 1]]
        found[0, start : start + _ROWS] = cosines(first, second)
        found[1, start : start + _ROWS] = squared_distances(first, second)
    return found[0], found[1]


def norms(embeddings: ArrayLike) -> FloatArray:
    """L2 norm of each embedding: (N, D) to (N,) float64.

    Their mean before normalisation is the field's "XNorm", a signal of drift.

    Raises:
        MetricError: see `normalise`.

    Source: ``xnorm`` in arcface_torch ``eval/verification.py``.

    >>> norms([[3.0, 4.0], [0.0, 1.0]])
    array([5., 1.])
    """
    values = _check_embeddings(embeddings)
    return np.sqrt(np.einsum("nd,nd->n", values, values))


def d_prime(scores: ArrayLike, genuine: ArrayLike) -> float:
    """Distance of the means of genuine and impostor scores, in units of their pooled standard deviation.

    (mean_g - mean_i) / sqrt((var_g + var_i) / 2), with population variances. Where neither kind of score varies it is
    0 for equal means, else infinite with the sign of their difference.

    Shape: scores (P,) real, genuine (P,) bool.

    Raises:
        MetricError: see `facerec.metrics.checks.check_pairs`.

    Source: Green and Swets 1966, Signal Detection Theory and Psychophysics; Daugman 2000, eq. 1.

    >>> d_prime([3.0, 5.0, 0.0, 2.0], [True, True, False, False])
    3.0
    """
    values, labels = check_pairs(scores, genuine)
    ours, theirs = values[labels], values[~labels]
    difference = float(ours.mean() - theirs.mean())
    if np.ptp(ours) == 0.0 and np.ptp(theirs) == 0.0:
        # Not by the variance: rounding of the mean gives equal numbers a variance just above zero.
        direction = int(ours[0] > theirs[0]) - int(ours[0] < theirs[0])
        return direction * float("inf") if direction else 0.0
    return difference / float(np.sqrt((ours.var() + theirs.var()) / 2.0))


def _check_embeddings(embeddings: ArrayLike) -> FloatArray:
    given: NDArray[np.generic] = np.asarray(embeddings)
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise MetricError(f"embeddings must be numbers of shape (N, D), not {given.dtype} of shape {given.shape}")
    values = given.astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        finite = np.isfinite(values).all(axis=-1)
        raise MetricError(f"embedding {int(np.argmin(finite))} holds values that are not finite; check the model")
    return values


def _check_same_shape(first: FloatArray, second: FloatArray) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise MetricError(f"pairs need two embeddings each, but the shapes are {first.shape} and {second.shape}")
