"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator

from facerec.config.schema import Config
from facerec.data.loader import Batch
from facerec.errors import TrainingError
from facerec.training.history import Evaluation
from facerec.training.interrupt import Interrupt, TrainingInterrupted, TrainingStopped
from facerec.training.optim import learning_rate, set_learning_rate
from facerec.training.progress import Progress, Stopwatch, log_to
from facerec.training.record import TrainResult, conclude, record_epoch
from facerec.training.run_folder import lock_run
from facerec.training.session import Session, describe_run, open_session, save, write_run_files
from facerec.training.step import RunningMeans
from facerec.training.tracker import RunStatus, Tracker
from facerec.training.warm import WarmData

__all__ = ["train"]

LOGGER = logging.getLogger("facerec")


def train(
    config: Config,
    *,
    tracker: Tracker,
    on_evaluation: Callable[[Evaluation], None] | None = None,
    data: WarmData | None = None,
) -> TrainResult:
    """Train as the configuration says; with ``training.resume``, go on where a run stopped.

    ``on_evaluation`` is told of every evaluation and may stop the training by raising `TrainingStopped`. ``data``
    keeps the pack and the pair sets open for the next training of this process.

    Raises:
        TrainingInterrupted: a signal asked to stop; a checkpoint has been saved.
        TrainingStopped: ``on_evaluation`` has raised it.
        TrainingError: the loss or a gradient is not finite.
        FacerecError: data, device, checkpoint or configuration cannot be used.
    """
    with Interrupt() as interrupt:
        session = open_session(config, tracker, data=data)
        session.on_evaluation = on_evaluation
        with lock_run(session.run_folder), log_to(session.log_folder / "train.log"):
            write_run_files(session)
            tracker.start(describe_run(session))
            status: RunStatus = "FAILED"
            reason = ""
            try:
                _announce(session)
                _run(session, interrupt)
                result = conclude(session)
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
                tracker.log_file(session.log_folder / "train.log")
                tracker.finish(status, reason=reason)
    return result


def _run(session: Session, interrupt: Interrupt) -> None:
    if session.resumed_from is None:
        save(session)  # Before the first step: a disk that cannot hold a checkpoint is found out now.
        if session.config.eval.before_training:
            record_epoch(session)
    while True:
        if session.epoch_is_unrecorded:
            record_epoch(session)
        if session.is_finished:
            break
        _stop_if_asked(session, interrupt)
        _train_epoch(session, interrupt)


def _train_epoch(session: Session, interrupt: Interrupt) -> None:
    config, loader, step = session.config, session.loader, session.step
    window, stopwatch = RunningMeans(session.device), Stopwatch()
    session.model.train()
    batches = loader.epoch(session.epoch, start_step=session.step_in_epoch)
    stopwatch.restart()
    with Progress(
        epoch=session.epoch,
        epochs=config.training.epochs,
        steps=loader.steps_per_epoch,
        done=session.step_in_epoch,
        images_per_step=config.data.batch_size,
    ) as progress:
        for batch in _timed(batches, stopwatch):
            lr = learning_rate(config.training, step=session.global_step, steps_per_epoch=loader.steps_per_epoch)
            set_learning_rate(step.optimizer, lr)
            images_BCHW = batch.images_BCHW.to(session.device, non_blocking=True)
            labels_B = batch.labels_B.to(session.device, non_blocking=True)

            loss, logits_BC = step(images_BCHW, labels_B, step=session.global_step)

            session.recent_keys.append((session.global_step, batch.keys_B.tolist()))
            is_last = session.step_in_epoch + 1 == loader.steps_per_epoch
            is_told = (session.global_step + 1) % config.logging.print_freq == 0 or is_last
            is_saved = is_last or _save_is_due(session) or interrupt.requested
            # A checkpoint waits for the device anyway, and must not hide updates that were left out.
            if (is_told or is_saved or session.device.type == "cpu") and step.is_broken():
                raise _not_finite(session, lr)
            for means in (window, session.epoch_means):
                means.add(loss, logits_BC, labels_B)
            session.skipped_records += batch.skipped
            _advance(session)
            progress.advance()
            if is_told:
                _tell_window(session, window, stopwatch, lr, progress)
            # Asked once, so that a signal that comes after it waits for the next step, which is saved.
            is_asked = interrupt.requested
            if is_saved or is_asked:
                save(session)
            if is_asked:
                _stop_if_asked(session, interrupt)


def _advance(session: Session) -> None:
    session.global_step += 1
    session.step_in_epoch += 1
    if session.step_in_epoch == session.loader.steps_per_epoch:
        session.epoch, session.step_in_epoch = session.epoch + 1, 0


def _save_is_due(session: Session) -> bool:
    every = session.config.checkpoint.every_steps
    return every > 0 and (session.global_step + 1) % every == 0


def _tell_window(session: Session, means: RunningMeans, stopwatch: Stopwatch, lr: float, progress: Progress) -> None:
    window = means.read()
    images_per_s, waited = stopwatch.rates(window.images)
    session.images_per_s.append(images_per_s)
    progress.tell(window, lr=lr, images_per_s=images_per_s)
    metrics = {
        "train/loss": window.loss,
        "train/accuracy": window.accuracy,
        "train/lr": lr,
        "train/images_per_s": images_per_s,
        "train/data_wait_fraction": waited,
    }
    if session.skipped_records:
        metrics["train/skipped_records"] = float(session.skipped_records)
    session.tracker.log_metrics(metrics, step=session.global_step)
    means.clear()
    stopwatch.restart()


def _timed(batches: Iterator[Batch], stopwatch: Stopwatch) -> Iterator[Batch]:
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        stopwatch.waited_s += time.perf_counter() - asked
        if batch is None:
            return
        yield batch


def _stop_if_asked(session: Session, interrupt: Interrupt) -> None:
    if interrupt.signal_number is None:
        return
    name = signal.Signals(interrupt.signal_number).name
    raise TrainingInterrupted(
        f"stopped by {name} after step {session.global_step}; the checkpoint is in {session.run_folder}: "
        "go on with --resume",
        signal_number=interrupt.signal_number,
    )


def _not_finite(session: Session, lr: float) -> TrainingError:
    first = session.step.first_broken_step
    step, keys = next(((step, keys) for step, keys in session.recent_keys if step == first), (session.global_step, []))
    records = ", ".join(map(str, keys[:8])) + (", …" if len(keys) > 8 else "")
    return TrainingError(
        f"the loss or a gradient is not finite at step {step} (epoch {session.epoch + 1}, learning rate {lr:.3g}, "
        f"records {records or 'unknown'}); the update was left out and the checkpoints are intact. Usual causes: "
        "a learning rate that is too high for the batch size, or no warm-up (training.warmup_epochs)"
    )


def _announce(session: Session) -> None:
    loader, config = session.loader, session.config
    LOGGER.info("run folder %s, log %s", session.run_folder, session.log_folder / "train.log")
    LOGGER.info(
        "%d images of %d identities, %d steps of %d images per epoch; %s on %s, %s",
        loader.num_images,
        loader.num_classes,
        loader.steps_per_epoch,
        config.data.batch_size,
        config.model.backbone,
        session.device,
        session.precision,
    )
    if session.resumed_from is not None:
        LOGGER.info(
            "resumed from %s: epoch %d, step %d of it",
            session.resumed_from,
            session.epoch + 1,
            session.step_in_epoch,
        )
