"""What every metric demands of its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError

__all__ = ["BoolArray", "FloatArray", "check_classes", "check_labels", "check_pairs", "check_values"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def check_pairs(scores: ArrayLike, genuine: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Scores and labels of pairs as arrays, (P,) float64 and (P,) bool.

    Raises:
        MetricError: the shapes differ, a score is not finite, a label is not 0 or 1, or genuine or impostor pairs
            are missing.
    """
    values = check_values(scores)
    labels = check_labels(genuine)
    if values.shape != labels.shape:
        raise MetricError(f"there are {values.size} scores but {labels.size} labels; give one label per score")
    check_classes(labels)
    return values, labels


def check_values(scores: ArrayLike, *, what: str = "scores") -> FloatArray:
    """Finite numbers as a float64 array, (P,) with P >= 1; see `check_pairs`."""
    given = np.asarray(scores)
    if given.dtype.kind not in "fiub":
        raise MetricError(f"{what} must be real numbers, not of type {given.dtype}")
    if given.ndim != 1:
        raise MetricError(f"{what} must have one dimension, not the shape {given.shape}")
    if given.size == 0:
        raise MetricError(f"there are no {what}; a metric needs at least one pair of each kind")
    values = given.astype(np.float64, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        first = int(np.argmin(finite))
        raise MetricError(
            f"{int((~finite).sum())} of {values.size} {what} are not finite (the first is {values[first]} at index "
            f"{first}); check the model's embeddings"
        )
    return values


def check_labels(genuine: ArrayLike) -> BoolArray:
    """Labels as a bool array, (P,); see `check_pairs`."""
    given = np.asarray(genuine)
    if given.ndim != 1:
        raise MetricError(f"labels must have one dimension, not the shape {given.shape}")
    # np.isin costs more than a whole curve; what is bool already needs no look.
    if given.dtype.kind not in "fiub" or not (given.dtype == np.bool_ or np.isin(given, (0, 1)).all()):
        raise MetricError("labels must be true (genuine) or false (impostor)")
    return given.astype(np.bool_, copy=False)


def check_classes(labels: BoolArray, *, where: str = "the pairs") -> None:
    """Raise a `MetricError` unless both genuine and impostor pairs are there."""
    num_genuine = int(np.count_nonzero(labels))
    if num_genuine in (0, labels.size):
        missing = "genuine" if num_genuine == 0 else "impostor"
        raise MetricError(f"{where} hold no {missing} pair (of {labels.size}); verification needs both kinds")
