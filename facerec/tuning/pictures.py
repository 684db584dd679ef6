"""Pictures of a study, by Optuna's own plots."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

__all__ = ["importances", "not_in_all_trials", "write_pictures"]

_MAX_CONTOUR_PARAMS = 4
_DPI = 120


def importances(study: Study) -> dict[str, float]:
    """How much of the variance of the objective each parameter explains, by fANOVA; empty with too few trials.

    Optuna's default evaluator answers another question, what matters for the best tenth, and is led astray by samples
    that a sampler has concentrated there.

    Source: Hutter et al. 2014, An Efficient Approach for Assessing Hyperparameter Importance.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator

    if len(study.directions) > 1 or _num_complete(study) < 3:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        except (ValueError, RuntimeError):
            # All values equal, or no parameter that every trial has.
            return {}
    return dict(found)


def not_in_all_trials(study: Study) -> list[str]:
    """Parameters that vary and that some complete trials have not, of which `importances` can say nothing."""
    return sorted(set(_varied(study, by_all=False)) - set(_varied(study, by_all=True)))


def write_pictures(study: Study, folder: Path, *, label: str) -> list[Path]:
    """Write every picture that the trials suffice for; returns their paths."""
    import matplotlib.pyplot as plt
    import optuna.visualization.matplotlib as plots

    plt.switch_backend("agg")
    folder.mkdir(parents=True, exist_ok=True)
    draw: dict[str, Callable[[], Any]] = {}
    several = len(study.directions) > 1
    if several:
        if len(study.directions) == 2:
            draw["pareto_front"] = lambda: plots.plot_pareto_front(study)
    else:
        ranked = sorted(importances(study).items(), key=lambda item: -item[1])
        strongest = [name for name, _ in ranked][:_MAX_CONTOUR_PARAMS]
        draw["history"] = lambda: plots.plot_optimization_history(study, target_name=label)
        draw["edf"] = lambda: plots.plot_edf(study, target_name=label)
        if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
            draw["intermediate"] = lambda: plots.plot_intermediate_values(study)
        if ranked:
            draw["importances"] = lambda: _plot_importances(study, label)
        if every := _varied(study, by_all=False):
            draw["slice"] = lambda: plots.plot_slice(study, params=every, target_name=label)
        # A trial without one of the parameters has no line.
        if shared := _varied(study, by_all=True):
            draw["parallel_coordinate"] = lambda: plots.plot_parallel_coordinate(
                study, params=shared, target_name=label
            )
        if len(strongest) > 1:
            draw["contour"] = lambda: plots.plot_contour(study, params=strongest, target_name=label)
    draw["timeline"] = lambda: plots.plot_timeline(study)
    return [_write(name, make, folder) for name, make in draw.items()] if _num_complete(study) else []


def _plot_importances(study: Study, label: str) -> Any:
    import optuna.visualization.matplotlib as plots
    from optuna.importance import FanovaImportanceEvaluator

    return plots.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target_name=label)


def _write(name: str, make: Callable[[], Any], folder: Path) -> Path:
    import matplotlib.pyplot as plt

    path = folder / f"{name}.png"
    with warnings.catch_warnings():
        # Optuna marks all of these plots as experimental, and matplotlib warns of layouts that are as we want them.
        warnings.simplefilter("ignore")
        make()
        _tidy(plt.gcf())
        plt.gcf().savefig(path, dpi=_DPI, bbox_inches="tight")
        plt.close("all")
    return path


def _tidy(figure: Figure) -> None:
    """Room for a grid of axes, names at its edge alone, and few plain numbers along logarithmic axes."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes = [one for one in figure.axes if one.get_label() != "<colorbar>"]
    place = axes[0].get_subplotspec() if axes else None
    rows, columns = place.get_geometry()[:2] if place is not None else (1, 1)
    if rows > 1:
        figure.set_size_inches(3.2 * columns + 1, 2.8 * rows + 0.5)
        for one in axes:
            one.label_outer()
    elif columns > 2:
        figure.set_size_inches(2.8 * columns + 1, 4.8)
    for axis in (side for one in axes for side in (one.xaxis, one.yaxis)):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def _varied(study: Study, *, by_all: bool) -> list[str]:
    """Parameters of more than one value among the complete trials; ``by_all`` takes those that every trial has."""
    settings = [trial.params for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    names = {name for params in settings for name in params if not by_all or all(name in one for one in settings)}
    return sorted(name for name in names if len({one[name] for one in settings if name in one}) > 1)


def _num_complete(study: Study) -> int:
    return sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
