"""A session is put together, fresh or from a checkpoint."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facerec.config.load import dump_yaml
from facerec.config.schema import Config
from facerec.data.loader import TrainLoader, build_train_loader
from facerec.errors import CheckpointError, FacerecError
from facerec.evaluation.suites import resolve_monitor
from facerec.fsio import atomic_write_text
from facerec.training.assembly import assemble
from facerec.training.checkpoint import read_state
from facerec.training.distributed import World
from facerec.training.elastic import claim_run, run_to_continue
from facerec.training.means import RunningMeans
from facerec.training.progress import log_to, log_warnings
from facerec.training.run_folder import checkpoint_to_resume, create_run_folder, lock_run
from facerec.training.saving import restore
from facerec.training.session import Session
from facerec.training.symptoms import Symptoms
from facerec.training.tracker import Tracker
from facerec.training.warm import WarmData

__all__ = ["occupy_run_folder", "open_session", "watch_symptoms"]

LOGGER = logging.getLogger("facerec")


def open_session(config: Config, tracker: Tracker, *, world: World, data: WarmData | None = None) -> Session:
    """Build everything, and continue where a checkpoint stopped when the configuration or the launcher asks for it.

    ``data`` holds what earlier trainings of this process have opened.

    Raises:
        FacerecError: the data, the device or the checkpoint cannot be used; nothing has been written then.
    """
    device = world.device(config.device)
    checkpoint = _find_checkpoint(config, world)
    state = read_state(checkpoint) if checkpoint else None
    data = data or WarmData()
    pair_sets = data.pair_sets(config)
    monitor = resolve_monitor(config.training.monitor, [pairs.name for pairs in pair_sets]) if pair_sets else ""
    loader = build_train_loader(config, pack=data.pack(config), rank=world.rank, world_size=world.size, device=device)
    try:
        parts = assemble(config, num_classes=loader.num_classes, world=world)
        session = Session(
            config=config,
            world=world,
            parts=parts,
            loader=loader,
            pair_sets=pair_sets,
            monitor=monitor or "train/loss",
            epoch_means=RunningMeans(device, world=world),
            symptoms=watch_symptoms(config, loader, world=world),
            tracker=tracker,
            # CUDA is asked every `print_freq` steps whether one was broken.
            recent_keys=deque(maxlen=max(64, config.logging.print_freq)),
            run_folder=checkpoint.parent if checkpoint else _new_run_folder(config, world),
        )
        if checkpoint and state:
            restore(session, checkpoint, state)
    except BaseException:
        loader.close()
        raise
    return session


def watch_symptoms(config: Config, loader: TrainLoader, *, world: World) -> Symptoms:
    """What watches the updates on the pictures of ``loader``."""
    used = loader.steps_per_epoch * config.data.batch_size * world.size
    # An order that repeats pictures leaves as many out, so an identity without one is no sign there.
    repeats = config.data.weights is not None or config.data.sampler.type == "balanced"
    return Symptoms(
        num_classes=loader.num_classes,
        unused_images=loader.num_images - (0 if repeats else used),
        device=world.device(config.device),
        world=world,
    )


@contextmanager
def occupy_run_folder(session: Session) -> Iterator[None]:
    """Hold the run's folder and write its log and its configuration; rank 0 does, the others tell warnings only.

    Raises:
        TrainingError: another process trains in the folder.
    """
    if not session.world.is_main:
        with log_warnings(rank=session.world.rank):
            yield
        return
    with lock_run(session.run_folder), log_to(session.log_folder / "train.log"):
        # The configuration of a resumed run is the newest.
        atomic_write_text(session.run_folder / "config.yaml", dump_yaml(session.config))
        claim_run(session.run_folder)
        yield


def _find_checkpoint(config: Config, world: World) -> Path | None:
    # Rank 0 looks, because the folder may change while the others start. They wait for it, so they hear of a failure.
    found, failure = "", None
    if world.is_main:
        try:
            found = _look_for_checkpoint(config, world)
        except FacerecError as error:
            failure = error
    found, problem = json.loads(world.text_of_main(json.dumps([found, str(failure or "")])))
    if problem:
        raise failure or CheckpointError(problem)
    return Path(found) if found else None


def _look_for_checkpoint(config: Config, world: World) -> str:
    save_dir = Path(config.checkpoint.save_dir)
    restarted = run_to_continue(save_dir) if world.restarts > 0 else None
    if restarted:
        LOGGER.warning("start %d by the launcher: going on with %s", world.restarts + 1, restarted)
        return str(restarted)
    resume = config.training.resume
    return str(checkpoint_to_resume(resume, save_dir=save_dir)) if resume else ""


def _new_run_folder(config: Config, world: World) -> Path:
    return Path(world.text_of_main(str(create_run_folder(Path(config.checkpoint.save_dir))) if world.is_main else ""))
