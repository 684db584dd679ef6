"""Where a model lies: a path, or an address in MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facerec.errors import MissingPathError, TrackingError

__all__ = ["locate_model"]


def locate_model(model: str) -> Path:
    """The local path of a checkpoint folder, run folder or weights file; ``runs:/…`` and ``models:/…`` are fetched.

    ``runs:/ID`` alone means the best checkpoint of that run.

    Raises:
        MissingPathError: the path or the artifact does not exist.
        TrackingError: the tracking store does not answer.
    """
    if not model.startswith(("runs:/", "models:/")):
        path = Path(model)
        if not path.exists():
            raise MissingPathError(f"model {model} does not exist; give a checkpoint or run folder, or a weights file")
        return path
    if model.startswith("runs:/") and "/" not in model.removeprefix("runs:/").strip("/"):
        model = f"{model.rstrip('/')}/checkpoints/best"
    return _fetch(model)


@contextmanager
def _short_patience() -> Iterator[None]:
    """MLflow would wait for many minutes for a dead server; what the user has set counts more."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _fetch(uri: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        with _short_patience():
            fetched = mlflow.artifacts.download_artifacts(artifact_uri=uri)
    except RequestException as error:
        raise TrackingError(f"the tracking store does not answer for {uri}; check MLFLOW_TRACKING_URI") from error
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingPathError(f"{uri} cannot be fetched from {mlflow.get_tracking_uri()}: {reason}") from error
    return Path(fetched)
