"""Where a model lies: a path, or an address in MLflow."""

from __future__ import annotations

from pathlib import Path

from facerec.errors import MissingPathError, TrackingError
from facerec.patience import limit_patience

__all__ = ["PREDICTOR_FOLDER", "locate_model"]

PREDICTOR_FOLDER = "artifacts/predictor"
"""Where a registered predictor keeps its weights, beside the files of MLflow."""


def locate_model(model: str) -> Path:
    """The local path of a model, fetched where it is an address in MLflow.

    A path may be a checkpoint folder, a run folder, a weights file or the folder of a registered predictor.
    ``runs:/ID`` alone means the best checkpoint of that run. For a predictor the answer is the folder of its weights,
    which every reader of checkpoints takes.

    Raises:
        MissingPathError: the path or the artifact does not exist.
        TrackingError: the tracking store does not answer.
    """
    if not model.startswith(("runs:/", "models:/")):
        path = Path(model)
        if not path.exists():
            raise MissingPathError(f"model {model} does not exist; give a checkpoint or run folder, or a weights file")
        return _inside(path)
    if model.startswith("runs:/") and "/" not in model.removeprefix("runs:/").strip("/"):
        model = f"{model.rstrip('/')}/checkpoints/best"
    return _inside(_fetch(model))


def _inside(path: Path) -> Path:
    weights = path / PREDICTOR_FOLDER
    return weights if (path / "MLmodel").is_file() and weights.is_dir() else path


def _fetch(uri: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    undo = limit_patience(retries=2)
    try:
        fetched = mlflow.artifacts.download_artifacts(artifact_uri=uri)
    except RequestException as error:
        raise TrackingError(f"the tracking store does not answer for {uri}; check MLFLOW_TRACKING_URI") from error
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingPathError(f"{uri} cannot be fetched from {mlflow.get_tracking_uri()}: {reason}") from error
    finally:
        undo()
    return Path(fetched)
