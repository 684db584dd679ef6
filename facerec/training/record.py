"""The end of an epoch: verify, record, judge; and the end of a run, well or not."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.config.monitor import EPOCH_ACCURACY, EPOCH_LOSS
from facerec.evaluation.names import metric_key
from facerec.evaluation.result import PairResult
from facerec.fsio import atomic_write_text
from facerec.training.checkpoint import mark
from facerec.training.describe import describe_run
from facerec.training.elastic import forget_run
from facerec.training.failures import explained_disk
from facerec.training.history import Evaluation
from facerec.training.interrupt import TrainingInterrupted, TrainingStopped
from facerec.training.session import Session
from facerec.training.tracker import RunStatus
from facerec.training.verification import verify

__all__ = ["TrainResult", "conclude", "record_epoch", "tracked"]

LOGGER = logging.getLogger("facerec")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training reached."""

    run_folder: Path
    monitor: str
    untrained: Evaluation | None
    best: Evaluation | None
    last: Evaluation | None
    tracker_run_id: str | None
    best_results: tuple[PairResult, ...] = ()
    """Of the best evaluation, for each pair set; none, where an earlier process has made it."""


@contextmanager
def tracked(session: Session) -> Iterator[None]:
    """Open the tracker's run for the block and close it with what the block has come to."""
    session.tracker.start(describe_run(session))
    status: RunStatus = "FAILED"
    reason = ""
    try:
        yield
        status = "FINISHED"
    except (TrainingInterrupted, TrainingStopped, KeyboardInterrupt) as stop:
        status, reason = "KILLED", str(stop) or "stopped from the keyboard"
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        LOGGER.error("training failed: %s", error)  # noqa: TRY400 - the traceback is for --debug
        raise
    finally:
        session.loader.close()
        if session.world.is_main:
            session.tracker.log_file(session.log_folder / "train.log")
        session.tracker.finish(status, reason=reason)


def record_epoch(session: Session) -> Evaluation:
    """Verify where it is due, write the history, and mark the best checkpoint.

    The checkpoint of this epoch has been saved already, so that a kill in the evaluation costs only the evaluation.
    Every process takes part and ends with the same history; rank 0 writes.

    Raises:
        CheckpointError: the disk refused, on rank 0.
    """
    metrics: dict[str, float] = {}
    if session.epoch > 0:
        window = session.epoch_means.read()
        metrics |= {EPOCH_LOSS: window.loss, EPOCH_ACCURACY: window.accuracy}
        session.tracker.log_metrics(metrics, step=session.epoch)
        session.epoch_means.clear()
    results: list[PairResult] = []
    if _is_due(session):
        measured, results = verify(session)
        metrics = metrics | measured
    evaluation = Evaluation(epoch=session.epoch, step=session.global_step, metrics=metrics)
    session.evaluations.append(evaluation)
    if session.world.is_main:
        with explained_disk(session, f"the evaluation of epoch {session.epoch}"):
            _keep(session, evaluation)
        if session.judgement.best is evaluation:
            session.best_results = tuple(results)
        _tell(session, evaluation)
    if session.on_evaluation is not None:
        session.on_evaluation(evaluation)
    return evaluation


def conclude(session: Session) -> TrainResult:
    """Write ``summary.json`` and hand the run's files to the tracker; rank 0 does, but every process must call it.

    Raises:
        CheckpointError: the disk refused, on rank 0.
    """
    judgement = session.judgement
    trained = [evaluation for evaluation in session.evaluations if evaluation.epoch > 0]
    untrained = [evaluation for evaluation in session.evaluations if evaluation.epoch == 0]
    result = TrainResult(
        run_folder=session.run_folder,
        monitor=session.monitor,
        untrained=untrained[0] if untrained else None,
        best=judgement.best,
        last=trained[-1] if trained else None,
        tracker_run_id=session.tracker.run_id,
        best_results=session.best_results,
    )
    num_skipped = len(session.skipped_keys())
    if session.world.is_main:
        _write_summary(session, result, num_skipped=num_skipped)
    return result


def _keep(session: Session, evaluation: Evaluation) -> None:
    # The history last: a resumed run does again what is not in it.
    if session.judgement.best is evaluation:
        mark(session.run_folder, "best", (session.run_folder / "last").resolve())
    entries = [entry.to_dict() for entry in session.evaluations]
    atomic_write_text(session.run_folder / "history.json", json.dumps(entries, indent=1))


def _write_summary(session: Session, result: TrainResult, *, num_skipped: int) -> None:
    summary = _summary(session, result) | {"skipped_records": num_skipped}
    with explained_disk(session, "the summary"):
        atomic_write_text(session.run_folder / "summary.json", json.dumps(summary, indent=2))
    if result.best is not None:
        best = {f"best/{key}": value for key, value in result.best.metrics.items()}
        session.tracker.log_metrics({**best, "best/epoch": float(result.best.epoch)}, step=session.epoch)
    for name in ("config.yaml", "history.json", "summary.json"):
        session.tracker.log_file(session.run_folder / name)
    for link in ("best", "last"):
        if (session.run_folder / link).is_dir():
            session.tracker.log_file((session.run_folder / link).resolve(), folder=f"checkpoints/{link}")
    forget_run(Path(session.config.checkpoint.save_dir))


def _is_due(session: Session) -> bool:
    config = session.config
    if not session.pair_sets:
        return False
    if session.epoch == 0:
        return config.eval.before_training
    return session.epoch % config.eval.eval_freq == 0 or session.epoch == config.training.epochs


def _tell(session: Session, evaluation: Evaluation) -> None:
    label = f"epoch {evaluation.epoch}" if evaluation.epoch else "untrained"
    values = evaluation.metrics
    if EPOCH_LOSS in values:
        LOGGER.info("%s: loss %.4f, accuracy %.4f", label, values[EPOCH_LOSS], values[EPOCH_ACCURACY])
    for pairs in session.pair_sets:
        key = metric_key(pairs.name, "accuracy")
        if key in values:
            best = " (best so far)" if session.judgement.best is evaluation else ""
            LOGGER.info(
                "%s: %s 10-fold accuracy %.4f ± %.4f, AUC %.4f%s",
                label,
                pairs.name,
                values[key],
                values[f"{key}_std"],
                values[metric_key(pairs.name, "auc")],
                best if session.monitor == key else "",
            )


def _summary(session: Session, result: TrainResult) -> dict[str, Any]:
    pictures = sorted((session.run_folder / "pictures").glob("roc_epoch_*.png"))
    rates = session.rates
    return {
        "run_folder": str(session.run_folder),
        "tracker_run_id": result.tracker_run_id,
        "monitor": result.monitor,
        "backbone": session.parts.model.backbone.facts(),
        "pair_sets": [pairs.name for pairs in session.pair_sets],
        "untrained": result.untrained.to_dict() if result.untrained else None,
        "best": result.best.to_dict() if result.best else None,
        "last": result.last.to_dict() if result.last else None,
        "roc_picture": str(pictures[-1]) if pictures else None,
        "images_per_s": statistics.median(rate.images_per_s for rate in rates) if rates else None,
        "outside_step_fraction": statistics.median(rate.outside_step_fraction for rate in rates) if rates else None,
    }
