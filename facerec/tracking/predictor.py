"""The best model of a training, kept with its run as a predictor that MLflow can register and serve."""

from __future__ import annotations

import base64
import logging
import tempfile
from pathlib import Path

from facerec.errors import FacerecError
from facerec.evaluation.suites import metric_values
from facerec.models.device import resolve_device
from facerec.models.weights import load_backbone
from facerec.serving.appraise import Appraisal, appraise
from facerec.serving.card import write_card
from facerec.serving.example import example_picture
from facerec.serving.flavor import save_model
from facerec.serving.package import stage
from facerec.training.describe import describe_pair_sets
from facerec.training.record import TrainResult
from facerec.training.tracker import ModelDescription, Tracker

__all__ = ["keep_predictor"]

_log = logging.getLogger(__name__)

_NOTE_TAG = "mlflow.note.content"


def keep_predictor(tracker: Tracker, result: TrainResult, *, device: str = "auto") -> Appraisal | None:
    """Pack the best checkpoint and hand it to the tracker, with its metrics and its pair sets.

    The model card becomes the description of the run. Without an evaluation the last checkpoint is kept; its predictor
    knows no thresholds. A training that has ended well is not failed by what goes wrong here: that is logged. Returns
    what was found out of the checkpoint, so that a registration need not do it again; None where something went wrong.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _keep(tracker, result, device=device)
    except (FacerecError, MlflowException, ImportError, OSError, RuntimeError) as error:
        # RuntimeError: the memory of a GPU that the training still fills; ImportError: a package that is not installed.
        _log.warning(
            "the predictor could not be packed (%s); make it later with `facerec register --checkpoint %s --name NAME`",
            error,
            result.run_folder,
        )
        return None


def _keep(tracker: Tracker, result: TrainResult, *, device: str) -> Appraisal:
    from mlflow.models import Model

    folder = result.run_folder / ("best" if (result.run_folder / "best").exists() else "last")
    loaded = load_backbone(folder, device=resolve_device(device))
    appraisal = appraise(loaded, known=result.best_results)
    evaluation = result.best or result.last
    card = write_card(
        f"{loaded.config.model.backbone} on {loaded.config.data.name}", spec=appraisal.spec, facts=appraisal.facts
    )
    with tempfile.TemporaryDirectory() as work:
        staged = stage(loaded, appraisal.spec, Path(work), card=card)
        example = base64.b64encode(example_picture(appraisal.spec.image_hw)).decode("ascii")
        packed = Path(work, "model")
        save_model(str(packed), mlflow_model=Model(), staged=staged, runtime="torch", example=example)
        tracker.log_model(
            ModelDescription(
                folder=packed,
                name="predictor",
                step=evaluation.epoch if evaluation is not None else 0,
                params={
                    "model.backbone": loaded.config.model.backbone,
                    "model.embedding_size": str(loaded.config.model.embedding_size),
                    "head.type": loaded.config.head.type,
                },
                tags={"facerec.dataset": loaded.config.data.name, _NOTE_TAG: card},
                metrics=metric_values(list(appraisal.results)),
                datasets=describe_pair_sets(appraisal.pair_sets),
            )
        )
    tracker.set_tags({_NOTE_TAG: card})
    return appraisal
