"""An evaluation that `mlflow run` started, recorded in its run."""

from __future__ import annotations

import os
from pathlib import Path

from facerec.evaluation.run import EvaluationRun
from facerec.evaluation.suites import metric_values
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.spool import DEFAULT_SPOOL_DIR
from facerec.training.tracker import DatasetDescription, RunDescription

__all__ = ["record_evaluation"]


def record_evaluation(
    run: EvaluationRun, *, subject: str, with_faces: bool = False, spool_dir: Path = DEFAULT_SPOOL_DIR
) -> bool:
    """Log metrics, pair sets, reports and pictures to the run that ``MLFLOW_RUN_ID`` names; says whether there is one.

    The keys are those of a training, so that both compare in the UI. ``subject`` is the checkpoint or the file of
    embeddings that was verified. Faces are personal data: what shows them stays here unless ``with_faces``.

    Raises:
        TrackingError: the store answers, and refuses.
    """
    if not os.environ.get("MLFLOW_RUN_ID"):
        return False
    tracker = MlflowTracker(spool_dir=spool_dir)
    tracker.start(
        RunDescription(
            name=f"evaluate-{run.folder.name}",
            experiment="facerec",
            params={"evaluate.subject": subject},
            tags={"facerec.kind": "evaluation"},
            datasets=tuple(
                DatasetDescription(
                    name=result.name,
                    digest=result.sha256,
                    context="eval",
                    source=result.name,
                    facts={"pairs": result.pairs, "genuine": result.genuine},
                )
                for result in run.results
            ),
        )
    )
    tracker.log_metrics(metric_values(run.results), step=0)
    for path in (run.summary, run.report, *run.documents, *(run.faces if with_faces else ())):
        tracker.log_file(path)
    for path in run.pictures:
        tracker.log_file(path, folder="pictures")
    tracker.finish("FINISHED")
    return True
