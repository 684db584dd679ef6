"""The hardest pairs of a set as a sheet of faces, where their pictures are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.evaluation.plotting import COLOURS, new_figure, save_figure
from facerec.evaluation.result import PairResult

__all__ = ["hardest_pairs", "write_face_sheet"]

_COLUMNS = 6


def hardest_pairs(result: PairResult, *, genuine: bool, count: int) -> NDArray[np.intp]:
    """Indices of the genuine pairs with the lowest scores, or of the impostor pairs with the highest, hardest first."""
    chosen = np.flatnonzero(result.issame == genuine)
    order = np.argsort(result.scores[chosen] if genuine else -result.scores[chosen], kind="stable")
    return chosen[order[:count]]


def write_face_sheet(
    result: PairResult,
    path: Path,
    *,
    picture: Callable[[int, int], NDArray[np.uint8]],
    count: int = 12,
) -> None:
    """Draw the hardest genuine and impostor pairs with their cosines.

    Args:
        result: The scored pairs.
        path: The PNG.
        picture: From pair and side (0 or 1) to (H, W, 3) uint8, RGB.
        count: Pairs of each kind.
    """
    kinds = [
        ("Genuine pairs with the lowest cosine: one person each", hardest_pairs(result, genuine=True, count=count), 0),
        (
            "Impostor pairs with the highest cosine: two people each",
            hardest_pairs(result, genuine=False, count=count),
            1,
        ),
    ]
    rows = [-(-len(pairs) // _COLUMNS) for _, pairs, _ in kinds]
    figure = new_figure(width=2.2 * _COLUMNS, height=1.55 * sum(rows) + 1.5)
    figure.suptitle(f"{result.name}: the hardest pairs", fontsize=14)
    parts = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=rows)))
    for part, (title, pairs, colour) in zip(parts, kinds, strict=True):
        part.suptitle(title, fontsize=11, color=COLOURS[colour])
        panels = part.subplots(-(-len(pairs) // _COLUMNS), _COLUMNS, squeeze=False).ravel()
        for panel in panels:
            panel.set_axis_off()
        for panel, pair in zip(panels, pairs.tolist(), strict=False):
            panel.imshow(_side_by_side(picture(pair, 0), picture(pair, 1)))
            panel.set_title(f"pair {pair}: {result.scores[pair]:.3f}", fontsize=9)
    save_figure(figure, path)


def _side_by_side(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = np.full((first.shape[0], max(2, first.shape[1] // 28), 3), 255, np.uint8)
    return np.concatenate([first, gap, second], axis=1)
