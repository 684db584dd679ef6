"""A trained model in MLflow's list of models, its metrics tied to the pair sets that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerec.tracking.mlflow_run import MAX_DIGEST_CHARS, SESSION_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric

__all__ = ["send_model"]

MODEL_TYPE = "face-verification"


def send_model(client: MlflowClient, run_id: str, body: Mapping[str, Any], *, session: str) -> str:
    """Upload a saved model as the output of a run; returns its identity.

    ``body`` holds ``path`` (a folder as ``mlflow.pyfunc.save_model`` writes it), ``name``, ``step``, ``time_ms``,
    ``params`` (name to text), ``tags`` and ``metrics``, a list of ``{"dataset", "digest", "values"}``. A model of the
    same name that this session has begun to send is completed, so that a repetition doubles nothing.

    Raises:
        mlflow.exceptions.MlflowException: the store does not take it.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    experiment_id: str = run.info.experiment_id
    model = _begun(client, experiment_id, body, session=session)
    if model is not None and model.status == LoggedModelStatus.READY:
        return str(model.model_id)
    if model is None:
        model = client.create_logged_model(
            experiment_id,
            name=body["name"],
            source_run_id=run_id,
            tags={**body["tags"], SESSION_TAG: session},
            params=body["params"],
            model_type=MODEL_TYPE,
        )
    # A second row would show the model twice, so what the run has already is asked for first.
    if model.model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=body["step"])])
    client.log_model_artifacts(model.model_id, str(Path(body["path"])))
    if not model.metrics:
        client.log_batch(run_id, metrics=_metrics(client, run_id, body, model_id=model.model_id))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def _begun(client: MlflowClient, experiment_id: str, body: Mapping[str, Any], *, session: str) -> LoggedModel | None:
    found = client.search_logged_models(
        [experiment_id],
        filter_string=f"name = '{body['name']}' AND tags.`{SESSION_TAG}` = '{session}'",
        max_results=1,
    )
    return found[0] if found else None


def _metrics(client: MlflowClient, run_id: str, body: Mapping[str, Any], *, model_id: str) -> list[Metric]:
    """The points of the run's own curves once more, now with a model and a data set: same time, so no second point."""
    from mlflow.entities import Metric

    metrics = []
    for part in body["metrics"]:
        for key, value in part["values"].items():
            history = client.get_metric_history(run_id, key)
            times = [point.timestamp for point in history if (point.step, point.value) == (body["step"], value)]
            metrics.append(
                Metric(
                    key,
                    value,
                    times[0] if times else body["time_ms"],
                    body["step"],
                    model_id=model_id,
                    dataset_name=part["dataset"],
                    dataset_digest=part["digest"][:MAX_DIGEST_CHARS],
                )
            )
    return metrics
