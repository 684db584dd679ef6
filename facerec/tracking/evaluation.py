"""An evaluation that `mlflow run` started, recorded in its run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from facerec.evaluation.run import EvaluationRun
from facerec.evaluation.suites import metric_values
from facerec.evaluation.template_run import TemplateRun
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.opening import describe_far_bounds
from facerec.tracking.spool import DEFAULT_SPOOL_DIR
from facerec.training.tracker import DatasetDescription, RunDescription

__all__ = ["record_evaluation", "record_templates"]


def record_evaluation(
    run: EvaluationRun, *, subject: str, with_faces: bool = False, spool_dir: Path = DEFAULT_SPOOL_DIR
) -> bool:
    """Log metrics, pair sets, reports and pictures to the run that ``MLFLOW_RUN_ID`` names; says whether there is one.

    The keys are those of a training, so that both compare in the UI. ``subject`` is the checkpoint or the file of
    embeddings that was verified. Faces are personal data: what shows them stays here unless ``with_faces``.

    Raises:
        TrackingError: the store answers, and refuses.
    """
    datasets = [
        DatasetDescription(
            name=result.name,
            digest=result.sha256,
            context="eval",
            source=result.name,
            facts={"pairs": result.pairs, "genuine": result.genuine},
        )
        for result in run.results
    ]
    return _record(
        run.folder,
        subject=subject,
        datasets=datasets,
        metrics=metric_values(run.results),
        documents=(run.summary, run.report, *run.documents, *(run.faces if with_faces else ())),
        pictures=run.pictures,
        spool_dir=spool_dir,
    )


def record_templates(run: TemplateRun, *, subject: str, spool_dir: Path = DEFAULT_SPOOL_DIR) -> bool:
    """`record_evaluation` for templates; none of their reports shows a face.

    Raises:
        TrackingError: the store answers, and refuses.
    """
    templates = run.templates
    verified = run.results[templates.name].get("verification")
    dataset = DatasetDescription(
        name=templates.name,
        digest=templates.digest,
        context="eval",
        source=templates.name,
        facts=templates.counts,
    )
    return _record(
        run.folder,
        subject=subject,
        datasets=[dataset],
        metrics=run.metrics,
        documents=run.documents,
        pictures=run.pictures,
        spool_dir=spool_dir,
        tags=describe_far_bounds({templates.name: verified["bound_far"]}) if verified else {},
    )


def _record(
    folder: Path,
    *,
    subject: str,
    datasets: Sequence[DatasetDescription],
    metrics: Mapping[str, float],
    documents: Sequence[Path],
    pictures: Sequence[Path],
    spool_dir: Path,
    tags: Mapping[str, str] | None = None,
) -> bool:
    if not os.environ.get("MLFLOW_RUN_ID"):
        return False
    tracker = MlflowTracker(spool_dir=spool_dir)
    tracker.start(
        RunDescription(
            name=f"evaluate-{folder.name}",
            experiment="facerec",
            params={"evaluate.subject": subject},
            tags={"facerec.kind": "evaluation", **(tags or {})},
            datasets=tuple(datasets),
        )
    )
    tracker.log_metrics(metrics, step=0)
    for path in documents:
        tracker.log_file(path)
    for path in pictures:
        tracker.log_file(path, folder="pictures")
    tracker.finish("FINISHED")
    return True
