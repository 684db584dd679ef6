"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

from facerec.config.schema import Config
from facerec.training.distributed import World, join_world
from facerec.training.failures import explained_failures, not_finite
from facerec.training.history import Evaluation
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.training.means import RunningMeans
from facerec.training.opening import occupy_run_folder, open_session
from facerec.training.optim import set_learning_rate
from facerec.training.progress import Progress
from facerec.training.record import TrainResult, conclude, record_epoch, tracked
from facerec.training.run_log import run_log
from facerec.training.saving import leave_later_checkpoints, save
from facerec.training.session import Session
from facerec.training.stopwatch import Stopwatch
from facerec.training.tracker import Tracker
from facerec.training.warm import WarmData

__all__ = ["train"]

LOGGER = logging.getLogger("facerec")


def train(
    config: Config,
    *,
    tracker: Tracker,
    on_evaluation: Callable[[Evaluation], None] | None = None,
    data: WarmData | None = None,
    before_finish: Callable[[TrainResult], None] | None = None,
) -> TrainResult:
    """Train as the configuration says; with ``training.resume``, go on where a run stopped.

    ``on_evaluation`` is told of every evaluation and may stop the training by raising `TrainingStopped`. ``data``
    keeps the pack and the pair sets open for the next training of this process. ``before_finish`` is called by rank 0
    when a training has ended well, while the tracker still takes what it hands over.

    Where a launcher has started several processes, all of them call this, and rank 0 records and reports.

    Raises:
        TrainingInterrupted: a signal asked to stop; a checkpoint has been saved.
        TrainingStopped: ``on_evaluation`` has raised it.
        TrainingError: the loss or a gradient is not finite, or memory ran out.
        FacerecError: data, device, checkpoint or configuration cannot be used.
    """
    with Interrupt() as interrupt, join_world(config.device) as world, run_log(rank=world.rank) as log:
        session = open_session(config, tracker, world=world, data=data, on_evaluation=on_evaluation)
        with occupy_run_folder(session, log), tracked(session):
            _announce(session)
            with explained_failures(config, session.parts):
                _run(session, interrupt)
            result = conclude(session)
            if before_finish is not None and world.is_main:
                before_finish(result)
    return result


def _run(session: Session, interrupt: Interrupt) -> None:
    if session.resumed_from is None:
        save(session)  # Before the first step: a disk that cannot hold a checkpoint is found out now.
        if session.config.eval.before_training:
            record_epoch(session)
    leave_later_checkpoints(session)
    while True:
        if session.epoch_is_unrecorded:
            record_epoch(session)
        if session.is_finished:
            break
        _stop_if_asked(session, _signal(session.world, interrupt))
        _train_epoch(session, interrupt)


def _train_epoch(session: Session, interrupt: Interrupt) -> None:
    loader, step = session.loader, session.step
    window, stopwatch = RunningMeans(session.device, world=session.world), Stopwatch(session.device)
    session.begin_epoch()
    batches = loader.epoch(session.epoch, start_step=session.step_in_epoch)
    with _progress(session) as progress:
        stopwatch.restart()
        for batch in stopwatch.timed(batches):
            lr = session.learning_rate
            set_learning_rate(step.optimizer, lr)
            with stopwatch.step():
                output = step(batch.images_BCHW, batch.labels_B, step=session.global_step)

            is_last = session.step_in_epoch + 1 == loader.steps_per_epoch
            is_told = is_last or (session.global_step + 1) % session.config.logging.print_freq == 0
            session.observe(batch, output)
            window.add(output)
            if is_told or session.device.type == "cpu":  # On CUDA asking costs a wait for the device.
                _check_finite(session, lr)
            session.advance()
            progress.advance()
            if is_told:
                _tell_window(session, window, stopwatch, lr, progress)
            # Asked once, so that a signal that comes after it waits for the next step, which is saved.
            signal_number = _signal(session.world, interrupt)
            if is_last or signal_number or _save_is_due(session):
                _check_finite(session, lr)  # A checkpoint must not hide updates that were left out.
                save(session)
            _stop_if_asked(session, signal_number)
    _warn(session, session.symptoms.of_epoch())


def _check_finite(session: Session, lr: float) -> None:
    if session.step.is_broken():
        raise not_finite(session, lr)


def _save_is_due(session: Session) -> bool:
    every = session.config.checkpoint.every_steps
    return every > 0 and session.global_step % every == 0


def _tell_window(session: Session, means: RunningMeans, stopwatch: Stopwatch, lr: float, progress: Progress) -> None:
    window = means.read()
    means.clear()
    rates = stopwatch.lap(window.images)
    session.rates.append(rates)
    progress.tell(window, lr=lr, images_per_s=rates.images_per_s)
    metrics = {
        "train/loss": window.loss,
        "train/accuracy": window.accuracy,
        "train/lr": lr,
        "train/images_per_s": rates.images_per_s,
        "train/data_wait_fraction": rates.data_wait_fraction,
        "train/outside_step_fraction": rates.outside_step_fraction,
    }
    if skipped := session.skipped_keys():
        metrics["train/skipped_records"] = float(len(skipped))
    session.tracker.log_metrics(metrics, step=session.global_step)
    _warn(session, session.symptoms.of_embeddings(session.step.embedding_spread))


def _warn(session: Session, sentences: list[str]) -> None:
    for sentence in sentences if session.world.is_main else []:
        LOGGER.warning(sentence)


def _signal(world: World, interrupt: Interrupt) -> int:
    """The signal that any process has had, 0 for none."""
    return world.largest(interrupt.signal_number or 0)


def _stop_if_asked(session: Session, signal_number: int) -> None:
    if not signal_number:
        return
    raise TrainingInterrupted(
        f"stopped by {signal.Signals(signal_number).name} after step {session.global_step}; the checkpoint is in "
        f"{session.run_folder}: go on with --resume",
        signal_number=signal_number,
    )


def _progress(session: Session) -> Progress:
    return Progress(
        epoch=session.epoch,
        epochs=session.config.training.epochs,
        steps=session.loader.steps_per_epoch,
        done=session.step_in_epoch,
        images_per_step=session.total_batch,
        is_shown=session.world.is_main,
    )


def _announce(session: Session) -> None:
    loader, config = session.loader, session.config
    LOGGER.info("run folder %s, log %s", session.run_folder, session.log_folder / "train.log")
    LOGGER.info(
        "%d images of %d identities, %d steps of %d images per epoch; %s on %s, %s",
        loader.num_images,
        loader.num_classes,
        loader.steps_per_epoch,
        session.total_batch,
        config.model.backbone,
        session.device,
        session.parts.precision,
    )
    if session.world.size > 1:
        LOGGER.info("%d processes, each with %d images of a batch", session.world.size, config.data.batch_size)
    if session.resumed_from is not None:
        LOGGER.info(
            "resumed from %s: epoch %d, step %d of it",
            session.resumed_from,
            session.epoch + 1,
            session.step_in_epoch,
        )
    _warn(session, session.notes)
