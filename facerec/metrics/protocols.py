"""The field's k-fold protocols on pair sets such as LFW, AgeDB-30 and CFP-FP.

Distances are squared L2 distances of normalised embeddings; a pair counts as genuine where d < t, strictly. Published
tables come from the grid of thresholds in arcface_torch's ``eval/verification.py``, reproduced here from cumulative
counts: one histogram per fold answers all thresholds at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import BoolArray, FloatArray, check_classes, check_pairs

__all__ = [
    "NUM_FOLDS",
    "FoldAccuracy",
    "FoldVal",
    "exact_kfold_accuracy",
    "fold_of_pairs",
    "kfold_accuracy",
    "val_at_far",
]

NUM_FOLDS = 10
"""Folds of the published tables."""


@dataclass(frozen=True, kw_only=True)
class FoldAccuracy:
    """Accuracy of each fold at the threshold that is best on the other folds."""

    accuracy: float
    """Mean of the folds."""
    accuracy_std: float
    """Standard deviation of the folds, with ddof = 0 as in the published tables."""
    fold_accuracy: FloatArray
    """(K,), in [0, 1]."""
    fold_threshold_sq_l2: FloatArray
    """(K,), squared L2 distances: genuine where d < threshold."""


@dataclass(frozen=True, kw_only=True)
class FoldVal:
    """True accept rate of each fold at the threshold that has the target FAR on the other folds."""

    val: float
    """Mean true accept rate of the folds."""
    val_std: float
    """Standard deviation of the folds, ddof = 0."""
    far: float
    """Mean false accept rate of the folds; unlike ``tar_at_far``'s it may exceed the target."""


def fold_of_pairs(num_pairs: int, num_folds: int) -> NDArray[np.intp]:
    """The fold of each pair, (P,): consecutive blocks, of which the first ``num_pairs % num_folds`` are one longer.

    The blocks are those of scikit-learn's ``KFold(num_folds, shuffle=False)``.

    Raises:
        MetricError: fewer pairs than folds, or fewer than two folds.

    >>> fold_of_pairs(7, 3)
    array([0, 0, 0, 1, 1, 2, 2])
    """
    if num_folds < 2:
        raise MetricError(f"a k-fold protocol needs at least 2 folds, not {num_folds}")
    if num_pairs < num_folds:
        raise MetricError(f"{num_pairs} pairs cannot fill {num_folds} folds; use a pair set with more pairs")
    sizes = np.full(num_folds, num_pairs // num_folds)
    sizes[: num_pairs % num_folds] += 1
    return np.repeat(np.arange(num_folds), sizes)


def kfold_accuracy(distances: ArrayLike, genuine: ArrayLike, *, num_folds: int = NUM_FOLDS) -> FoldAccuracy:
    """The accuracy of the published tables: thresholds from ``np.arange(0, 4, 0.01)``, the first best one counts.

    Shape: distances (P,) squared L2, genuine (P,) bool.

    Raises:
        MetricError: see `facerec.metrics.checks.check_pairs`; a negative distance; fewer pairs than folds.

    Source: ``calculate_roc`` in arcface_torch ``eval/verification.py``.

    >>> result = kfold_accuracy([0.5, 1.5, 0.6, 1.6], [True, False, True, False], num_folds=2)
    >>> result.fold_threshold_sq_l2.round(2), result.fold_accuracy
    (array([0.61, 0.51]), array([1. , 0.5]))
    >>> result.accuracy, result.accuracy_std
    (0.75, 0.25)
    """
    values, labels = _check_distances(distances, genuine)
    thresholds = np.arange(0, 4, 0.01)
    return _accuracy_of_folds(values, labels, thresholds, num_folds=num_folds)


def exact_kfold_accuracy(distances: ArrayLike, genuine: ArrayLike, *, num_folds: int = NUM_FOLDS) -> FoldAccuracy:
    """The same protocol without a grid: every threshold that separates two training distances is tried.

    Thresholds lie halfway between neighbouring distances of the training folds; of several best ones the smallest
    counts. It differs from `kfold_accuracy` where the distances crowd within a hundredth.

    Shape: distances (P,) squared L2, genuine (P,) bool.

    Raises:
        MetricError: as `kfold_accuracy`.

    >>> distances, genuine = [0.501, 0.503, 0.501, 0.503], [True, False, True, False]
    >>> exact_kfold_accuracy(distances, genuine, num_folds=2).accuracy
    1.0
    >>> kfold_accuracy(distances, genuine, num_folds=2).accuracy
    0.5
    """
    values, labels = _check_distances(distances, genuine)
    folds = fold_of_pairs(values.size, num_folds)
    accuracy, chosen = np.empty(num_folds), np.empty(num_folds)
    for fold in range(num_folds):
        training = folds != fold
        chosen[fold] = _best_threshold(values[training], labels[training])
        accuracy[fold] = np.mean((values[~training] < chosen[fold]) == labels[~training])
    return _summarise(accuracy, chosen)


def val_at_far(distances: ArrayLike, genuine: ArrayLike, *, far: float = 1e-3, num_folds: int = NUM_FOLDS) -> FoldVal:
    """The field's VAL@FAR: TAR of each fold where the FAR of the other folds, interpolated, meets the target.

    Thresholds are ``np.arange(0, 4, 0.001)``; the threshold of a fold is a linear interpolation over the FAR of the
    other folds, and 0 where that never reaches the target. The original interpolates with scipy's
    ``interp1d(kind="slinear")``, which now refuses the repeated FARs that any such curve holds. This follows what it
    computed while it accepted them: between two different FARs it joins the last threshold of the lower to the first
    of the higher, and on a repeated FAR it takes the last threshold.

    Shape: distances (P,) squared L2, genuine (P,) bool.

    Raises:
        MetricError: as `kfold_accuracy`, and where a fold lacks genuine or impostor pairs.

    Source: ``calculate_val`` in arcface_torch ``eval/verification.py``.

    >>> result = val_at_far([0.5, 1.5, 0.6, 1.6], [True, False, True, False], far=0.5, num_folds=2)
    >>> result.val, result.far
    (1.0, 0.5)
    """
    values, labels = _check_distances(distances, genuine)
    if not 0.0 < far < 1.0:
        raise MetricError(f"a target FAR lies between 0 and 1, not {far}")
    folds = fold_of_pairs(values.size, num_folds)
    for fold in range(num_folds):
        check_classes(labels[folds == fold], where=f"fold {fold} of {num_folds}: the pairs")
    thresholds = np.arange(0, 4, 0.001)
    accepted = _count_accepted(values, folds, thresholds, num_folds=num_folds, kept=~labels)
    impostors = np.bincount(folds[~labels], minlength=num_folds)
    training_far = (accepted.sum(axis=0) - accepted) / (impostors.sum() - impostors)[:, None]
    vals, fars = np.empty(num_folds), np.empty(num_folds)
    for fold in range(num_folds):
        reached = training_far[fold, -1] >= far
        threshold = np.interp(far, training_far[fold], thresholds) if reached else 0.0
        same = values[folds == fold] < threshold
        truth = labels[folds == fold]
        vals[fold], fars[fold] = np.mean(same[truth]), np.mean(same[~truth])
    return FoldVal(val=float(vals.mean()), val_std=float(vals.std()), far=float(fars.mean()))


def _accuracy_of_folds(
    values: FloatArray, labels: BoolArray, thresholds: FloatArray, *, num_folds: int
) -> FoldAccuracy:
    folds = fold_of_pairs(values.size, num_folds)
    true_accepts = _count_accepted(values, folds, thresholds, num_folds=num_folds, kept=labels)
    false_accepts = _count_accepted(values, folds, thresholds, num_folds=num_folds, kept=~labels)
    impostors = np.bincount(folds[~labels], minlength=num_folds)
    correct = true_accepts + impostors[:, None] - false_accepts
    # All training accuracies of a fold share one denominator: the counts have the same first maximum.
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    sizes = np.bincount(folds, minlength=num_folds)
    return _summarise(correct[np.arange(num_folds), best] / sizes, thresholds[best])


def _count_accepted(
    values: FloatArray, folds: NDArray[np.intp], thresholds: FloatArray, *, num_folds: int, kept: BoolArray
) -> NDArray[np.int64]:
    """Kept pairs with d < t, for each fold and threshold: (K, T)."""
    first_accepting = np.searchsorted(thresholds, values[kept], side="right")
    # A pair beyond the last threshold is never accepted; it falls into an extra bin that is cut off.
    bins = thresholds.size + 1
    counts = np.bincount(folds[kept] * bins + first_accepting, minlength=num_folds * bins)
    return np.cumsum(counts.reshape(num_folds, bins)[:, :-1], axis=1)


def _best_threshold(values: FloatArray, labels: BoolArray) -> float:
    """The smallest of the thresholds that classify most pairs correctly."""
    order = np.argsort(values)
    values, labels = values[order], labels[order]
    last_of_tie = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    gain = np.cumsum(np.where(labels, 1, -1))[last_of_tie]
    best = int(np.argmax(np.append(0, gain)))
    if best == 0:
        return float(values[0])
    below = values[last_of_tie[best - 1]]
    if best == last_of_tie.size:
        return float(np.nextafter(below, np.inf))
    above = values[last_of_tie[best]]
    middle = below + (above - below) / 2.0
    return float(middle if middle > below else above)


def _summarise(accuracy: FloatArray, thresholds: FloatArray) -> FoldAccuracy:
    return FoldAccuracy(
        accuracy=float(np.mean(accuracy)),
        accuracy_std=float(np.std(accuracy)),
        fold_accuracy=accuracy,
        fold_threshold_sq_l2=thresholds,
    )


def _check_distances(distances: ArrayLike, genuine: ArrayLike) -> tuple[FloatArray, BoolArray]:
    values, labels = check_pairs(distances, genuine)
    if values.min() < 0.0:
        raise MetricError(f"a squared distance cannot be negative ({values.min():g}); were cosines given?")
    return values, labels
