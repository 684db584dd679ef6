"""Templates: one embedding for all images of a person in one appearance, as IJB-B and IJB-C define them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerec.errors import MetricError
from facerec.metrics.checks import FloatArray

__all__ = ["pair_scores", "pool_templates"]

_CHUNK = 1 << 16
"""Pairs at a time: two of their embeddings of 512 float32 take 256 MiB."""


def pool_templates(
    embeddings: ArrayLike, *, templates: ArrayLike, media: ArrayLike, weights: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pool embeddings into one unit vector for each template.

    Every embedding keeps its norm and is multiplied by its weight. Embeddings of one medium, such as the frames of a
    video, are averaged; the media of a template are added; the sum is scaled to length 1.

    Args:
        embeddings: (N, D), before normalisation; original and mirrored ones already added.
        templates: (N,), integers.
        media: (N,), integers; a number belongs to its template alone.
        weights: (N,), such as detector scores; ones by default.

    Returns:
        The templates, rising, (T,), and their embeddings, (T, D) float32; one that sums to zero stays zero.

    Raises:
        MetricError: the shapes differ, nothing is there, or a value is not finite.

    Source: ``image2template_feature`` in arcface_torch ``eval_ijbc.py``.

    >>> numbers, pooled = pool_templates([[4.0, 0.0], [2.0, 0.0], [0.0, 4.0]], templates=[5, 5, 5], media=[1, 1, 2])
    >>> numbers, pooled.round(2)
    (array([5]), array([[0.6, 0.8]], dtype=float32))
    """
    values = np.asarray(embeddings)
    numbers, medium = np.asarray(templates), np.asarray(media)
    factor = np.ones(len(values), np.float32) if weights is None else np.asarray(weights)
    _check_shapes(values, numbers, medium, factor)
    order = np.lexsort((medium, numbers))
    numbers, medium = numbers[order], medium[order]
    new_template = np.append(True, numbers[1:] != numbers[:-1])
    media_starts = np.flatnonzero(new_template | np.append(True, medium[1:] != medium[:-1]))
    sizes = np.diff(np.append(media_starts, len(order)))
    template_starts = np.searchsorted(media_starts, np.flatnonzero(new_template))
    weighted = values[order] * factor[order, None]
    if not np.isfinite(weighted).all():
        raise MetricError("an embedding or weight of a template is not finite; check the model")
    means = np.add.reduceat(weighted.astype(np.float64, copy=False), media_starts) / sizes[:, None]
    pooled = np.add.reduceat(means, template_starts)
    lengths = np.linalg.norm(pooled, axis=1)
    lengths[lengths == 0.0] = 1.0
    return numbers[new_template].astype(np.int64), (pooled / lengths[:, None]).astype(np.float32)


def pair_scores(embeddings: NDArray[np.float32], pair_rows: NDArray[np.integer]) -> FloatArray:
    """Dot product of the two embeddings of each pair, a few pairs at a time.

    Shape: (T, D) and (P, 2), rows; gives (P,) float64.

    >>> pair_scores(np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32), np.array([[0, 1], [1, 1]])).round(6)
    array([0.6, 1. ])
    """
    scores = np.empty(len(pair_rows))
    for start in range(0, len(pair_rows), _CHUNK):
        rows = pair_rows[start : start + _CHUNK]
        scores[start : start + _CHUNK] = np.einsum("pd,pd->p", embeddings[rows[:, 0]], embeddings[rows[:, 1]])
    return scores


def _check_shapes(
    values: NDArray[np.generic], numbers: NDArray[np.generic], medium: NDArray[np.generic], factor: NDArray[np.generic]
) -> None:
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
        raise MetricError(f"embeddings must be numbers of shape (N, D), not {values.dtype} of shape {values.shape}")
    for name, given in (("templates", numbers), ("media", medium), ("weights", factor)):
        if given.shape != (len(values),) or given.dtype.kind not in ("fiu" if name == "weights" else "iu"):
            raise MetricError(f"{name} must be numbers of shape ({len(values)},), not of shape {given.shape}")
