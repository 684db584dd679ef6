"""A session is put together, fresh or from a checkpoint."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from facerec.config.load import dump_yaml
from facerec.config.monitor import EPOCH_LOSS
from facerec.config.schema import Config
from facerec.data.loader import build_train_loader
from facerec.data.pairs import PairSet
from facerec.errors import CheckpointError, FacerecError
from facerec.evaluation.names import resolve_monitor
from facerec.evaluation.suites import doubtful_monitor
from facerec.fsio import atomic_write_text
from facerec.training.assembly import assemble
from facerec.training.checkpoint import read_state
from facerec.training.distributed import World
from facerec.training.elastic import claim_run, run_to_continue
from facerec.training.history import Evaluation
from facerec.training.means import RunningMeans
from facerec.training.run_folder import checkpoint_to_resume, create_run_folder, lock_run
from facerec.training.run_log import RunLog
from facerec.training.saving import restore
from facerec.training.session import Session
from facerec.training.symptoms import Symptoms
from facerec.training.tracker import Tracker
from facerec.training.warm import WarmData

__all__ = ["choose_monitor", "occupy_run_folder", "open_session"]

LOGGER = logging.getLogger("facerec")


def open_session(
    config: Config,
    tracker: Tracker,
    *,
    world: World,
    data: WarmData | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> Session:
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
    monitor = choose_monitor(config, pair_sets)
    loader = build_train_loader(config, pack=data.pack(config), rank=world.rank, world_size=world.size, device=device)
    try:
        parts = assemble(config, num_classes=loader.num_classes, device=device, world=world)
        session = Session(
            config=config,
            world=world,
            parts=parts,
            loader=loader,
            pair_sets=pair_sets,
            monitor=monitor,
            epoch_means=RunningMeans(device, world=world),
            symptoms=Symptoms(
                num_classes=loader.num_classes,
                most_unseen_images=loader.most_unseen_images,
                device=device,
                world=world,
            ),
            tracker=tracker,
            # CUDA is asked every `print_freq` steps whether one was broken.
            recent_keys=deque(maxlen=max(64, config.logging.print_freq)),
            run_folder=checkpoint.parent if checkpoint else _new_run_folder(config, world),
            on_evaluation=on_evaluation,
        )
        if checkpoint and state:
            restore(session, checkpoint, state)
        if note := doubtful_monitor(monitor, pair_sets):
            session.notes.append(note)
    except BaseException:
        loader.close()
        raise
    return session


def choose_monitor(config: Config, pair_sets: Sequence[PairSet]) -> str:
    """The metric key that decides which checkpoint is best: without pair sets the loss, whatever is configured.

    Raises:
        ConfigError: no evaluation logs ``training.monitor``.
    """
    names = [pairs.name for pairs in pair_sets]
    return resolve_monitor(config.training.monitor, names) if names else EPOCH_LOSS


@contextmanager
def occupy_run_folder(session: Session, log: RunLog) -> Iterator[None]:
    """Hold the run's folder and write its log and its configuration; rank 0 does.

    Raises:
        TrainingError: another process trains in the folder.
    """
    if not session.world.is_main:
        yield
        return
    with lock_run(session.run_folder):
        log.write_to(session.log_folder / "train.log")
        # The configuration of a resumed run is the newest.
        atomic_write_text(session.run_folder / "config.yaml", dump_yaml(session.config))
        claim_run(session.run_folder, save_dir=Path(session.config.checkpoint.save_dir))
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
