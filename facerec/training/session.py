"""Everything that a running training holds, and how it is put together, fresh or from a checkpoint."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from facerec.config.load import config_to_dict, dump_yaml, flatten
from facerec.config.schema import Config
from facerec.data.loader import TrainLoader, build_train_loader
from facerec.data.pairs import PairSet
from facerec.errors import CheckpointError
from facerec.evaluation.suites import resolve_monitor
from facerec.fsio import atomic_write_text
from facerec.models.build import FaceModel, build_model
from facerec.models.device import Precision, choose_precision, resolve_device
from facerec.rng import capture_rng, restore_rng, seed_everything
from facerec.training.checkpoint import SavedState, load_checkpoint, prune, read_state, save_checkpoint
from facerec.training.environment import describe_environment, make_deterministic
from facerec.training.history import Evaluation, Judgement, judge
from facerec.training.optim import build_optimizer
from facerec.training.resume import check_resumable
from facerec.training.run_folder import checkpoint_to_resume, create_run_folder
from facerec.training.step import RunningMeans, TrainStep
from facerec.training.tracker import DatasetDescription, RunDescription, Tracker
from facerec.training.warm import WarmData

__all__ = ["Session", "open_session", "save"]

LOGGER = logging.getLogger("facerec")


@dataclass(kw_only=True)
class Session:
    """A training between its first and its last step."""

    config: Config
    device: torch.device
    precision: Precision
    loader: TrainLoader
    pair_sets: list[PairSet]
    monitor: str
    """Metric key that decides which checkpoint is best."""
    model: FaceModel
    step: TrainStep
    epoch_means: RunningMeans
    tracker: Tracker
    run_folder: Path
    resumed_from: Path | None = None
    resume_run_id: str | None = None
    epoch: int = 0
    """Epochs completed."""
    step_in_epoch: int = 0
    global_step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    recent_keys: deque[tuple[int, list[int]]] = field(default_factory=lambda: deque(maxlen=64))
    """Record keys of the newest batches, to name the one that broke the loss."""
    skipped_records: int = 0
    images_per_s: list[float] = field(default_factory=list)
    on_evaluation: Callable[[Evaluation], None] | None = None
    """Told of every new evaluation; it may raise `TrainingStopped`."""

    @property
    def log_folder(self) -> Path:
        """Folder of the log file and of TensorBoard's events."""
        return Path(self.config.logging.log_dir) / self.run_folder.name

    @property
    def epoch_is_unrecorded(self) -> bool:
        """Whether an epoch is complete and its evaluation is not yet in the history."""
        at_boundary = self.step_in_epoch == 0 and self.epoch > 0
        return at_boundary and all(evaluation.epoch != self.epoch for evaluation in self.evaluations)

    @property
    def judgement(self) -> Judgement:
        """The best evaluation so far, and how long ago it was."""
        training = self.config.training
        return judge(self.evaluations, key=self.monitor, mode=training.mode, min_delta=training.min_delta)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or an early stop is due."""
        training = self.config.training
        stop = training.early_stop and self.judgement.without_improvement >= training.patience
        return self.epoch >= training.epochs or stop


def open_session(config: Config, tracker: Tracker, *, data: WarmData | None = None) -> Session:
    """Build everything, and continue where a checkpoint stopped when the configuration asks for it.

    ``data`` holds what earlier trainings of this process have opened.

    Raises:
        FacerecError: the data, the device or the checkpoint cannot be used; nothing has been written then.
    """
    device = resolve_device(config.device)
    make_deterministic(enabled=config.deterministic)
    checkpoint = None
    if config.training.resume:
        checkpoint = checkpoint_to_resume(config.training.resume, save_dir=Path(config.checkpoint.save_dir))
    state = read_state(checkpoint) if checkpoint else None
    data = data or WarmData()
    pair_sets = data.pair_sets(config)
    monitor = resolve_monitor(config.training.monitor, [pairs.name for pairs in pair_sets]) if pair_sets else ""
    loader = build_train_loader(config, pack=data.pack(config), pin_memory=device.type == "cuda")
    try:
        seed_everything(config.seed)
        model = build_model(config, num_classes=loader.num_classes)
        model = model.to(device).to(memory_format=torch.channels_last)
        precision = choose_precision(device, amp=config.training.amp)
        session = Session(
            config=config,
            device=device,
            precision=precision,
            loader=loader,
            pair_sets=pair_sets,
            monitor=monitor or "train/loss",
            model=model,
            step=_build_step(config, model, precision, device),
            epoch_means=RunningMeans(device),
            tracker=tracker,
            run_folder=checkpoint.parent if checkpoint else create_run_folder(Path(config.checkpoint.save_dir)),
        )
        if checkpoint and state:
            _restore(session, checkpoint, state)
    except BaseException:
        loader.close()
        raise
    return session


def _build_step(config: Config, model: FaceModel, precision: Precision, device: torch.device) -> TrainStep:
    training = config.training
    spread = training.data_parallel and device.type == "cuda" and torch.cuda.device_count() > 1
    if training.data_parallel and not spread:
        LOGGER.info("training.data_parallel has nothing to spread over: one device is in use")
    return TrainStep(
        model,
        build_optimizer(model.parameters(), training, device=device),
        precision=precision,
        grad_clip_norm=training.grad_clip_norm,
        device=device,
        init_scale=training.amp_init_scale,
        data_parallel=spread,
    )


def _restore(session: Session, checkpoint: Path, state: SavedState) -> None:
    loader = session.loader
    for line in check_resumable(
        state, session.config, num_classes=loader.num_classes, fingerprint=loader.pack.fingerprint
    ):
        LOGGER.warning(line)
    if state.step_in_epoch >= loader.steps_per_epoch:
        raise CheckpointError(f"{checkpoint} stopped after step {state.step_in_epoch} of an epoch that is shorter now")
    load_checkpoint(
        checkpoint,
        state,
        backbone=session.model.backbone,
        head=session.model.head,
        optimizer=session.step.optimizer,
    )
    session.step.scaler.load_state_dict(state.scaler)
    session.epoch_means.restore(state.epoch_sums)
    session.epoch, session.step_in_epoch, session.global_step = state.epoch, state.step_in_epoch, state.global_step
    session.evaluations = _known_evaluations(session.run_folder, state)
    session.resumed_from, session.resume_run_id = checkpoint, state.tracker_run_id
    restore_rng(state.rng)


def _known_evaluations(run_folder: Path, state: SavedState) -> list[Evaluation]:
    # history.json is newer than the checkpoint by the evaluation that follows it; later epochs will be done again.
    path = run_folder / "history.json"
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        found = [Evaluation(**entry) for entry in entries]
    except FileNotFoundError:
        found = [Evaluation(**entry) for entry in state.evaluations]
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged; remove it to go on with the checkpoint's own history") from error
    return [evaluation for evaluation in found if evaluation.epoch <= state.epoch]


def save(session: Session) -> Path:
    """Write a checkpoint of the present step, and remove those that are no longer kept.

    Raises:
        CheckpointError: the disk refused; the checkpoints that were there are untouched.
    """
    state = SavedState(
        epoch=session.epoch,
        step_in_epoch=session.step_in_epoch,
        global_step=session.global_step,
        num_classes=session.loader.num_classes,
        config=config_to_dict(session.config),
        fingerprint=session.loader.pack.fingerprint,
        rng=capture_rng(),
        epoch_sums=session.epoch_means.state(),
        scaler=session.step.scaler.state_dict(),
        optimizer={},
        evaluations=[evaluation.to_dict() for evaluation in session.evaluations],
        tracker_run_id=session.tracker.run_id,
    )
    try:
        folder = save_checkpoint(
            session.run_folder,
            state,
            backbone=session.model.backbone,
            head=session.model.head,
            optimizer=session.step.optimizer,
        )
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"the checkpoint of step {session.global_step} could not be written under {session.run_folder} ({reason}); "
            "earlier checkpoints are intact: make room and go on with --resume"
        ) from error
    prune(session.run_folder, keep_last_n=session.config.checkpoint.keep_last_n)
    return folder


def describe_run(session: Session) -> RunDescription:
    """What the tracker is told before the first step."""
    config, loader = session.config, session.loader
    head, backbone, data = config.head.type, config.model.backbone, config.data.name
    params = flatten(config_to_dict(config)) | describe_environment(session.device)
    params["head.num_classes"] = loader.num_classes
    params |= {
        "run.folder": str(session.run_folder),
        "run.precision": str(session.precision),
        "run.steps_per_epoch": loader.steps_per_epoch,
        "data.images": loader.num_images,
        "data.fingerprint": loader.pack.fingerprint,
    }
    params |= {f"eval.sha256.{pairs.name}": pairs.sha256 for pairs in session.pair_sets}
    sources = [
        DatasetDescription(
            name=data,
            digest=loader.pack.fingerprint,
            context="train",
            source=str(config.data.root),
            facts={"images": loader.num_images, "identities": loader.num_classes},
        )
    ] + [
        DatasetDescription(
            name=pairs.name,
            digest=pairs.sha256,
            context="eval",
            source=str(pairs.path),
            facts={"pairs": pairs.num_pairs, "genuine": pairs.num_genuine},
        )
        for pairs in session.pair_sets
    ]
    return RunDescription(
        name=config.logging.run_name or f"{backbone}-{head}-{data}",
        experiment=config.logging.experiment,
        params=params,
        tags={"facerec.backbone": backbone, "facerec.head": head, "facerec.dataset": data, **config.logging.tags},
        datasets=tuple(sources),
        resume_run_id=session.resume_run_id,
    )


def write_run_files(session: Session) -> None:
    """Put the complete configuration into the run folder; that of a resumed run is the newest."""
    atomic_write_text(session.run_folder / "config.yaml", dump_yaml(session.config))
