"""``summary.json`` of a run, read and told to a person."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facerec.config.load import load_config
from facerec.config.monitor import EPOCH_LOSS
from facerec.errors import MissingPathError, UsageError
from facerec.evaluation.names import metric_key
from facerec.training.run_folder import latest_run

__all__ = ["describe_summary", "find_run", "read_summary"]


def find_run(run: str | None, *, config_path: str | None, overrides: Sequence[str] = ()) -> Path:
    """The run folder that a user means: the named one, or the latest of a configuration.

    Raises:
        UsageError: neither is given.
        MissingPathError: there is none.
    """
    if run is not None:
        return Path(run)
    if config_path is None:
        raise UsageError("name a run folder, or a configuration with --config FILE")
    return latest_run(Path(load_config(config_path, overrides).checkpoint.save_dir))


def read_summary(run_folder: Path) -> dict[str, Any]:
    """Read ``summary.json``.

    Raises:
        MissingPathError: the run has not finished, or the folder is no run.
    """
    path = run_folder / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(f"{path} does not exist: the run has not finished, or this is no run folder") from error
    except ValueError as error:
        raise MissingPathError(f"{path} is damaged; train again or remove the folder") from error
    return summary


def describe_summary(summary: dict[str, Any]) -> str:
    """A few lines: accuracy before and after, where things lie, how to look at them."""
    lines = [f"run folder   {summary['run_folder']}", *(_accuracy_line(summary, name) for name in summary["pair_sets"])]
    if not summary["pair_sets"] and summary["last"]:
        lines.append(f"train loss   {summary['last']['metrics'].get(EPOCH_LOSS, math.nan):.4f} in the last epoch")
    if summary["best"]:
        best = summary["best"]
        lines.append(
            f"best         epoch {best['epoch']} by {summary['monitor']}: {best['metrics'][summary['monitor']]:.4f}"
        )
    if summary["images_per_s"]:
        outside = summary.get("outside_step_fraction")  # Runs of earlier versions did not tell it.
        told = "" if outside is None else f"; {100 * outside:.1f} % of the time outside of the steps"
        lines.append(f"speed        {summary['images_per_s']:.0f} images/s (median while training){told}")
    if skipped := summary["skipped_records"]:
        lines.append(f"skipped      {skipped} damaged record{'s' if skipped > 1 else ''}")
    if summary["roc_picture"]:
        lines.append(f"ROC picture  {summary['roc_picture']}")
    if summary["tracker_run_id"]:
        lines.append(f"MLflow run   {summary['tracker_run_id']}")
        lines.append("compare      MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui -w 1    (then open the address)")
    return "\n".join(lines)


def _accuracy_line(summary: dict[str, Any], name: str) -> str:
    key = metric_key(name, "accuracy")

    def value(moment: str) -> str:
        metrics = (summary[moment] or {}).get("metrics", {})
        return f"{metrics[key]:.4f} ± {metrics[f'{key}_std']:.4f}" if key in metrics else "not measured"

    untrained = f"; untrained {value('untrained')}" if summary["untrained"] else ""
    return f"{name:<12} 10-fold accuracy {value('last')} after the last epoch{untrained}"
