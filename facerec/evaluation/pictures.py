"""Pictures of results: the ROC and the distributions of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facerec.evaluation.confidence import Band
from facerec.evaluation.plotting import COLOURS, STYLES, new_figure, save_figure
from facerec.evaluation.result import PairResult
from facerec.metrics.roc import OperatingPoint, Roc, far_label, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "draw_curves", "write_roc_picture", "write_score_picture"]

_Steps = tuple[NDArray[np.float64], NDArray[np.float64]]

_MAX_POINTS = 4000
_NUM_BINS = 80


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A line in the picture of ROCs."""

    label: str
    roc: Roc
    points: Sequence[OperatingPoint]
    band: Band | None = None


def write_roc_picture(
    results: Sequence[PairResult],
    path: Path,
    *,
    bands: Sequence[Band] = (),
    labels: Sequence[str] = (),
    title: str = "Verification: receiver operating characteristic",
) -> None:
    """Draw TAR over FAR, logarithmic, with the operating points; hollow points rest on fewer than 30 false accepts.

    Args:
        results: One curve each.
        path: The PNG.
        bands: 95 % intervals along the curves, one for each result, or none.
        labels: Names of the curves in place of the sets' names.
        title: Title of the picture.
    """
    names = labels or [result.name for result in results]
    curves = [
        Curve(
            label=f"{name}: accuracy {100 * result.accuracy:.2f} %, AUC {result.auc:.4f}",
            roc=roc_curve(result.scores, result.issame),
            points=result.operating_points,
            band=band,
        )
        for name, result, band in zip(names, results, bands or [None] * len(results), strict=True)
    ]
    draw_curves(curves, path, title=title)


def draw_curves(curves: Sequence[Curve], path: Path, *, title: str) -> None:
    """Draw curves with a logarithmic FAR axis; see `write_roc_picture`."""
    figure = new_figure(width=7.2, height=5.0 + 0.2 * len(curves))
    axes = figure.add_subplot()
    # The whole decade that holds the first false accept, so that the TAR without any is seen too.
    left = 10.0 ** np.floor(np.log10(min(0.1, *(1.0 / curve.roc.num_impostor for curve in curves))))
    steps = [_steps(curve.roc, left) for curve in curves]
    for index, (curve, step) in enumerate(zip(curves, steps, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        if curve.band is not None:
            _draw_band(axes, curve.band, colour=colour, label="95 % interval" if index == 0 else "")
        _draw_roc(axes, curve, step, colour=colour, style=STYLES[index % len(STYLES)])
    chance = np.geomspace(left, 1.0, 200)
    axes.plot(chance, chance, color="0.55", linewidth=1.2, linestyle=(0, (1, 2)), label="chance")
    for face, meaning in (("0.3", "operating point"), ("white", "rough: fewer than 30 false accepts expected")):
        axes.plot([], [], linestyle="", marker="o", color="0.3", markerfacecolor=face, label=meaning)
    lowest = min(tar[0] for _, tar in steps)
    # Curves that start high are drawn where they differ, not squeezed under the upper edge.
    bottom = 0.0 if lowest < 0.5 else np.floor(10.0 * lowest - 0.5) / 10.0
    axes.set(
        title=title,
        xlabel="False accept rate (impostor pairs accepted)",
        ylabel="True accept rate (genuine pairs accepted)",
        xscale="log",
        xlim=(left, 1.0),
        ylim=(bottom, 1.0 + 0.02 * (1.0 - bottom)),
    )
    axes.grid(which="major", color="0.85", linewidth=0.8)
    axes.grid(which="minor", axis="x", color="0.93", linewidth=0.5)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)


def write_score_picture(results: Sequence[PairResult], path: Path) -> None:
    """Draw how the cosines of genuine and of impostor pairs are distributed, one panel per set."""
    columns = min(2, len(results))
    rows = -(-len(results) // columns)
    figure = new_figure(width=7.2 if columns == 1 else 11.0, height=4.6 * rows)
    for index, result in enumerate(results):
        _draw_scores(figure.add_subplot(rows, columns, index + 1), result)
    save_figure(figure, path)


def _draw_band(axes: Axes, band: Band, *, colour: str, label: str) -> None:
    axes.fill_between(
        band.far, band.tar_low, band.tar_high, step="post", color=colour, alpha=0.15, linewidth=0, label=label
    )


def _draw_roc(axes: Axes, curve: Curve, steps: _Steps, *, colour: str, style: str) -> None:
    axes.plot(
        *steps,
        drawstyle="steps-post",
        color=colour,
        linestyle=style,
        linewidth=1.8,
        label=curve.label,
    )
    for point in curve.points:
        if point.far_target > steps[0][0]:
            axes.plot(
                point.far_target,
                point.tar,
                marker="o",
                markersize=6,
                markerfacecolor=colour if point.trusted else "white",
                markeredgecolor=colour,
                markeredgewidth=1.4,
            )


def _steps(roc: Roc, left: float) -> _Steps:
    """The highest TAR at each FAR, from the left edge on; thinned out where there are more points than pixels."""
    far, tar = np.maximum(roc.far, left), roc.tar
    last = np.append(np.flatnonzero(np.diff(far) > 0), far.size - 1)
    far, tar = far[last], tar[last]
    if far.size > _MAX_POINTS:
        kept = np.unique(np.searchsorted(far, np.geomspace(left, 1.0, _MAX_POINTS)).clip(max=far.size - 1))
        far, tar = far[kept], tar[kept]
    return far, tar


def _draw_scores(axes: Axes, result: PairResult) -> None:
    low, high = float(result.scores.min()), float(result.scores.max())
    margin = 0.03 * (high - low) + 0.005
    bins = np.linspace(low - margin, high + margin, _NUM_BINS + 1)
    kinds = (("impostor", ~result.issame, COLOURS[1], "//"), ("genuine", result.issame, COLOURS[0], ""))
    for kind, chosen, colour, hatch in kinds:
        counts, _ = np.histogram(result.scores[chosen], bins)
        axes.stairs(
            100.0 * counts / counts.sum(),
            bins,
            fill=True,
            facecolor=f"{colour}55",
            edgecolor=colour,
            hatch=hatch,
            linewidth=1.3,
            label=f"{kind} ({counts.sum()} pairs)",
        )
    threshold = 1.0 - float(np.mean(result.fold_threshold_sq_l2)) / 2.0
    axes.axvline(threshold, color="0.2", linewidth=1.4, label=f"threshold of the 10 folds, {threshold:.3f}")
    for point in result.operating_points:
        if point.far_target == 1e-3 and not point.is_bound:
            label = f"threshold at FAR {far_label(point.far_target)}, {point.threshold:.3f}"
            axes.axvline(point.threshold, color="0.2", linewidth=1.4, linestyle="--", label=label)
    axes.set(
        title=f"{result.name}: EER {100 * result.eer:.2f} %, d' {result.d_prime:.2f}",
        xlabel="Cosine of the two embeddings",
        ylabel="Pairs of the kind, per cent",
        xlim=(bins[0], bins[-1]),
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
