"""What a tracker tells MLflow, one function per kind of entry; each may be repeated without doubling anything."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from facerec.config.monitor import EPOCH_ACCURACY, EPOCH_LOSS
from facerec.tracking.buffer import MAX_POINTS_PER_CALL, Point
from facerec.tracking.process import REASON_TAG, may_live

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "KEY_TAG",
    "MAX_DIGEST_CHARS",
    "RESUMED_TAG",
    "SESSION_TAG",
    "Known",
    "is_taken_over",
    "open_run",
    "owns_run",
    "send_artifact",
    "send_finish",
    "send_points",
    "send_tags",
    "unknown_points",
]

_log = logging.getLogger(__name__)

SESSION_TAG = "facerec.session"
KEY_TAG = "facerec.run_key"
RESUMED_TAG = "facerec.resumed_from"

_BATCH = 100
_EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")
MAX_DIGEST_CHARS = 36

_STEP_CURVES = "train/"

Known = int | tuple[int, float]
"""By what a point is recognised: its step; where that is no step of the training, together with its value."""

T = TypeVar("T")


def open_run(client: MlflowClient, body: Mapping[str, Any], *, session: str, maybe_created: bool) -> str:
    """Find or create the run that ``body`` describes and bring it up to date; returns its identity.

    ``maybe_created`` says that an earlier attempt may have created it without our hearing of it; it is then looked for
    by its key. A run that a later session has taken over keeps its tags and its status.

    Raises:
        mlflow.exceptions.MlflowException: the store does not take it.
    """
    run = _existing_run(client, body, maybe_created=maybe_created)
    is_new = run is None
    if run is None:
        origin = {} if body["run_id"] is None else {RESUMED_TAG: body["run_id"]}
        run = client.create_run(
            body["experiment_id"] or _experiment_id(client, body["experiment"]),
            start_time=body["start_ms"],
            tags=body["context_tags"] | body["tags"] | origin,
            run_name=body["name"],
        )
    run_id: str = run.info.run_id
    _mark_experiment(client, run.info.experiment_id)
    if not is_new and owns_run(run, session=session):
        rename = body["mode"] == "adopt" and _RANDOM_NAME.fullmatch(run.info.run_name or "")
        client.update_run(run_id, status="RUNNING", name=body["name"] if rename else None)
        send_tags(client, run_id, body["tags"])
    # A resumed run keeps the parameters that it began with; the values of other keys of the same name are not ours.
    _send_params(client, run, body["params"], rename_clashes=body["mode"] != "resume")
    _send_datasets(client, run_id, body["datasets"])
    return run_id


def owns_run(run: Run, *, session: str) -> bool:
    """Whether no later session has opened the run; sessions are named so that they sort by time."""
    newest: str = run.data.tags.get(SESSION_TAG, "")
    return newest <= session


def is_taken_over(run: Run, *, session: str) -> bool:
    """Whether a later session tracks the run at present, as far as one can tell."""
    return not owns_run(run, session=session) and run.info.status == "RUNNING" and may_live(run.data.tags)


def send_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Append points to curves."""
    from mlflow.entities import Metric

    for part in _chunks(points, MAX_POINTS_PER_CALL):
        metrics = [Metric(key=key, value=value, timestamp=ms, step=step) for key, value, step, ms in part]
        client.log_batch(run_id, metrics=metrics)


def unknown_points(
    client: MlflowClient, run_id: str, points: Iterable[Point], *, histories: dict[str, set[Known]]
) -> list[Point]:
    """Those of ``points`` that the store does not hold; ``histories`` keeps what was read of each curve.

    A training that goes on from a checkpoint does the steps after it again. Of such a step the point that the store
    has stays, though a speed or the last digits of a loss come out otherwise. A result of an epoch or of the whole run
    is added where it is another, because the newest is the one that counts.
    """
    missing: list[Point] = []
    for key, value, step, ms in points:
        if key not in histories:
            history = client.get_metric_history(run_id, key)
            histories[key] = {_known(key, metric.value, step=metric.step) for metric in history}
        if _known(key, value, step=step) not in histories[key]:
            missing.append((key, value, step, ms))
    return missing


def send_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags."""
    from mlflow.entities import RunTag

    for part in _chunks(sorted(tags.items()), _BATCH):
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in part])


def send_artifact(client: MlflowClient, run_id: str, *, path: Path, folder: str) -> None:
    """Upload a file into ``folder``, or a folder with its name and content."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), f"{folder}/{path.name}" if folder else path.name)
    else:
        client.log_artifact(run_id, str(path), folder or None)


def send_finish(client: MlflowClient, run_id: str, *, status: str, reason: str, end_ms: int) -> None:
    """Close the run."""
    if reason:
        client.set_tag(run_id, REASON_TAG, reason)
    client.set_terminated(run_id, status, end_ms)


def _known(key: str, value: float, *, step: int) -> Known:
    is_of_step = key.startswith(_STEP_CURVES) and key not in (EPOCH_LOSS, EPOCH_ACCURACY)
    return step if is_of_step else (step, value)


def _existing_run(client: MlflowClient, body: Mapping[str, Any], *, maybe_created: bool) -> Run | None:
    from mlflow.exceptions import MlflowException

    run_id = body["run_id"]
    if run_id is not None:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if body["mode"] == "adopt" or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if body["mode"] == "adopt" or run.info.lifecycle_stage == "active":
                return run
        _log.warning("the run %s is no longer in the tracking store; the training goes on as a new run", run_id)
    return _run_by_key(client, body) if maybe_created else None


def _run_by_key(client: MlflowClient, body: Mapping[str, Any]) -> Run | None:
    from mlflow.entities import ViewType

    experiment_id = body["experiment_id"]
    if experiment_id is None:
        experiment = client.get_experiment_by_name(body["experiment"])
        if experiment is None:
            return None
        experiment_id = experiment.experiment_id
    key_filter = f"tags.`{KEY_TAG}` = '{body['tags'][KEY_TAG]}'"
    found = client.search_runs([experiment_id], key_filter, run_view_type=ViewType.ALL, max_results=1)
    # A search leaves out the inputs and may shorten values; a second look brings all.
    return client.get_run(found[0].info.run_id) if found else None


def _experiment_id(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        identity: str = experiment.experiment_id
        return identity
    try:
        return str(client.create_experiment(name, tags=dict([_EXPERIMENT_KIND])))
    except MlflowException as error:
        # Another process was faster.
        experiment = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _mark_experiment(client: MlflowClient, experiment_id: str) -> None:
    # Without the tag the UI guesses between model development and language-model applications.
    key, value = _EXPERIMENT_KIND
    if key not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, key, value)


def _send_params(client: MlflowClient, run: Run, params: Mapping[str, str], *, rename_clashes: bool) -> None:
    from mlflow.entities import Param

    known: dict[str, str] = run.data.params
    new: list[Param] = []
    for key, value in params.items():
        free = key if key not in known else f"cfg.{key}"
        if known.get(key) == value or free in known or (free != key and not rename_clashes):
            continue
        new.append(Param(free, value))
    for part in _chunks(new, _BATCH):
        client.log_batch(run.info.run_id, params=part)


def _send_datasets(client: MlflowClient, run_id: str, datasets: Sequence[Mapping[str, Any]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            dataset=Dataset(
                name=data["name"],
                digest=data["digest"][:MAX_DIGEST_CHARS],
                source_type="local",
                source=json.dumps({"uri": data["source"], "digest": data["digest"]}),
                profile=json.dumps(data["facts"]),
            ),
            tags=[InputTag(key="mlflow.data.context", value=data["context"])],
        )
        for data in datasets
    ]
    if inputs:
        client.log_inputs(run_id, datasets=inputs)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
