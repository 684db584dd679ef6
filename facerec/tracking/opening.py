"""From a run's description to the entry that opens it, with what the environment says."""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from facerec.evaluation.names import bound_fars
from facerec.metrics.roc import far_label
from facerec.tracking.mlflow_run import KEY_TAG, RESUMED_TAG, SESSION_TAG
from facerec.tracking.names import MAX_PARAM_CHARS, clean_name, clean_tags, shorten
from facerec.tracking.process import identity_tags
from facerec.training.tracker import DatasetDescription, RunDescription

__all__ = ["FAR_BOUNDS_TAG", "describe_far_bounds", "describe_opening", "new_session", "pending_id"]

FAR_BOUNDS_TAG = "facerec.far_bounds"
"""Names the FARs that a run has metrics of and its sets cannot show."""

_PENDING = "pending-"
_MAX_DATASET_CHARS = 500


def new_session() -> str:
    """A name for this process's part of a run; names sort by time."""
    return f"{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:12]}"


def pending_id(body: dict[str, Any]) -> str:
    """The identity of a run that the store has not given one yet; a later training may resume it by this."""
    run_id: str | None = body["run_id"]
    return run_id or _PENDING + body["tags"][KEY_TAG]


def describe_opening(run: RunDescription, *, session: str) -> dict[str, Any]:
    """The body of an ``open`` entry, as plain data.

    ``mode`` is ``adopt`` for the run that `mlflow run` has created for us, ``resume`` for the run of an interrupted
    training, else ``create``. The variable MLFLOW_RUN_ID is removed, so that a child process does not adopt the run
    as well.
    """
    given = os.environ.pop("MLFLOW_RUN_ID", None)
    resumed = run.resume_run_id
    is_pending = resumed is not None and resumed.startswith(_PENDING)
    key = resumed.removeprefix(_PENDING) if resumed is not None and is_pending and given is None else session
    own_tags = {**identity_tags(), SESSION_TAG: session, KEY_TAG: key}
    if given is not None and resumed is not None:
        own_tags[RESUMED_TAG] = resumed
    experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    return {
        "mode": "adopt" if given is not None else "create" if resumed is None else "resume",
        "run_id": given or (None if is_pending else resumed),
        "maybe_created": given is None and is_pending,
        "goes_on": resumed is not None,
        "experiment": experiment_name or run.experiment,
        "experiment_id": None if experiment_name else os.environ.get("MLFLOW_EXPERIMENT_ID"),
        "name": run.name,
        "start_ms": time.time_ns() // 1_000_000,
        "params": {clean_name(key): shorten(value, limit=MAX_PARAM_CHARS) for key, value in run.params.items()},
        "tags": clean_tags({**_far_bounds(run.datasets), **run.tags, **own_tags}),
        "context_tags": _context_tags(),
        "datasets": [_plain(dataset) for dataset in run.datasets],
    }


def describe_far_bounds(bounds: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A tag of the FARs, by their labels, that are bounds on each set; none where no set has any."""
    text = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in bounds.items() if labels)
    return {FAR_BOUNDS_TAG: text} if text else {}


def _far_bounds(datasets: Sequence[DatasetDescription]) -> dict[str, str]:
    impostors = {
        dataset.name: dataset.facts["pairs"] - dataset.facts["genuine"]
        for dataset in datasets
        if {"pairs", "genuine"} <= dataset.facts.keys()
    }
    return describe_far_bounds(
        {name: [far_label(far) for far in bound_fars(count)] for name, count in impostors.items() if count}
    )


def _plain(dataset: DatasetDescription) -> dict[str, Any]:
    facts = dataclasses.asdict(dataset)
    return facts | {key: shorten(facts[key], limit=_MAX_DATASET_CHARS) for key in ("name", "source", "digest")}


def _context_tags() -> dict[str, str]:
    """User, source and commit, as MLflow itself would set them; names that another site may add included."""
    from mlflow.tracking.context.registry import resolve_tags

    return clean_tags(resolve_tags())
