"""Further pictures of results: DET, accuracy per fold, groups, and the CMC of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facerec.evaluation.grouping import GroupReport
from facerec.evaluation.plotting import COLOURS, STYLES, new_figure, save_figure
from facerec.evaluation.result import PairResult
from facerec.metrics.groups import GroupRates
from facerec.metrics.rates import det_curve
from facerec.metrics.roc import roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_cmc_picture", "write_det_picture", "write_fold_picture", "write_group_picture"]

_RATE_TICKS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
_MAX_POINTS = 4000


def write_det_picture(results: Sequence[PairResult], path: Path, *, labels: Sequence[str] = ()) -> None:
    """Draw FNMR over FMR on normal-deviate axes; the EER lies where a curve meets the diagonal."""
    from scipy.special import ndtri

    figure = new_figure(width=6.8, height=6.4 + 0.2 * len(results))
    axes = figure.add_subplot()
    lowest = 0.5
    for index, result in enumerate(results):
        det = det_curve(roc_curve(result.scores, result.issame))
        shown = np.isfinite(det.fmr_deviate) & np.isfinite(det.fnmr_deviate)
        shown = _thin(np.flatnonzero(shown))
        name = labels[index] if labels else result.name
        axes.plot(
            det.fmr_deviate[shown],
            det.fnmr_deviate[shown],
            drawstyle="steps-post",
            color=COLOURS[index % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            linewidth=1.8,
            # A model without errors has no point on these axes.
            marker="" if shown.size > 1 else "o",
            label=f"{name}: EER {100 * result.eer:.2f} %",
        )
        lowest = min(lowest, 1.0 / max(result.genuine, result.pairs - result.genuine))
    left, right = float(ndtri(lowest)) - 0.1, float(ndtri(0.5))
    axes.plot(
        [left, right], [left, right], color="0.55", linewidth=1.2, linestyle=(0, (1, 2)), label="equal error rates"
    )
    ticks = [rate for rate in _RATE_TICKS if lowest <= rate <= 0.5]
    names = [f"{100 * rate:g} %" for rate in ticks]
    axes.set_xticks(ndtri(ticks), names)
    axes.set_yticks(ndtri(ticks), names)
    axes.set(
        title="Verification: detection error trade-off",
        xlabel="False match rate (normal deviate scale)",
        ylabel="False non-match rate (normal deviate scale)",
        xlim=(left, right),
        ylim=(left, right),
        aspect="equal",
    )
    axes.grid(color="0.88", linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)


def write_fold_picture(results: Sequence[PairResult], path: Path) -> None:
    """Draw the accuracy of every fold as a point, and their mean with one standard deviation."""
    figure = new_figure(width=7.2, height=1.8 + 0.75 * len(results))
    axes = figure.add_subplot()
    for index, result in enumerate(results):
        colour = COLOURS[index % len(COLOURS)]
        folds = 100.0 * result.fold_accuracy
        # Folds of one accuracy would hide each other: each has its own height.
        heights = index + np.linspace(-0.22, 0.22, folds.size)
        axes.scatter(folds, heights, s=30, facecolor=f"{colour}88", edgecolor=colour, label="fold" if not index else "")
        axes.errorbar(
            100.0 * result.accuracy,
            index,
            xerr=100.0 * result.accuracy_std,
            color="0.15",
            marker="D",
            markersize=6,
            capsize=4,
            linewidth=1.4,
            label="mean ± standard deviation" if not index else "",
        )
    axes.set_yticks(
        range(len(results)),
        [f"{result.name}\n{100 * result.accuracy:.2f} ± {100 * result.accuracy_std:.2f} %" for result in results],
    )
    axes.set(title="Accuracy of the ten folds", xlabel="Accuracy, per cent", ylim=(len(results) - 0.5, -0.5))
    axes.grid(axis="x", color="0.88", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)


def write_group_picture(report: GroupReport, path: Path) -> None:
    """Draw FMR and FNMR of every group with 95 % intervals; hollow points rest on too few pairs."""
    figure = new_figure(width=10.5, height=2.4 + 0.5 * len(report.rates))
    panels = figure.subplots(1, 2, sharey=True)
    _draw_group_rates(panels[0], report.rates, kind="fmr", overall=report.point.far)
    _draw_group_rates(panels[1], report.rates, kind="fnmr", overall=1.0 - report.point.tar)
    panels[0].set(xlabel="False match rate", ylim=(len(report.rates) - 0.5, -0.5))
    panels[1].set(xlabel="False non-match rate")
    panels[0].set_yticks(range(len(report.rates)), [rate.group for rate in report.rates])
    figure.suptitle(f"Groups at one threshold, {report.point.threshold:.4f} (FAR {report.point.far_target:g} over all)")
    for face, meaning in ((COLOURS[0], "rate and 95 % interval"), ("white", "too few pairs to trust")):
        panels[0].plot([], [], linestyle="", marker="o", color=COLOURS[0], markerfacecolor=face, label=meaning)
    panels[0].plot([], [], color="0.3", linestyle="--", label="all pairs")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save_figure(figure, path)


def write_cmc_picture(curves: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    """Draw the identification rate over the rank; ``curves[name]`` (R,) begins at rank 1."""
    figure = new_figure(width=7.2, height=5.0 + 0.2 * len(curves))
    axes = figure.add_subplot()
    for index, (name, rates) in enumerate(curves.items()):
        axes.plot(
            np.arange(1, rates.size + 1),
            rates,
            color=COLOURS[index % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            marker="o",
            markersize=4,
            linewidth=1.8,
            label=f"{name}: rank 1 {100 * rates[0]:.2f} %",
        )
    axes.set(
        title="Identification: cumulative match characteristic",
        xlabel="Rank",
        ylabel="Mated probes found at this rank or before",
    )
    axes.set_xticks([1, *range(5, max(rates.size for rates in curves.values()) + 1, 5)])
    axes.grid(color="0.88", linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    save_figure(figure, path)


def _draw_group_rates(axes: Axes, rates: Sequence[GroupRates], *, kind: str, overall: float) -> None:
    for index, rate in enumerate(rates):
        value, (low, high), trusted = (
            (rate.fmr, rate.fmr_interval, rate.fmr_trusted)
            if kind == "fmr"
            else (rate.fnmr, rate.fnmr_interval, rate.fnmr_trusted)
        )
        if value is None:
            axes.annotate("no pairs", (0.02, index), xycoords=("axes fraction", "data"), va="center", color="0.4")
            continue
        axes.plot([low, high], [index, index], color=COLOURS[0], linewidth=2.0, alpha=0.6)
        axes.plot(
            value,
            index,
            marker="o",
            markersize=8,
            color=COLOURS[0],
            markerfacecolor=COLOURS[0] if trusted else "white",
            clip_on=False,
            zorder=5,
        )
    axes.axvline(overall, color="0.3", linestyle="--", linewidth=1.2)
    axes.set_xlim(left=0.0)
    axes.grid(axis="x", color="0.88", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _thin(places: NDArray[np.intp]) -> NDArray[np.intp]:
    if places.size <= _MAX_POINTS:
        return places
    return places[np.linspace(0, places.size - 1, _MAX_POINTS).astype(np.intp)]
