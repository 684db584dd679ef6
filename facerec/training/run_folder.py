"""The folder of a run: its name, its lock, and which one to resume."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from facerec.errors import CheckpointError, MissingPathError, TrainingError
from facerec.training.checkpoint import list_checkpoints

__all__ = ["checkpoint_to_resume", "create_run_folder", "latest_run", "lock_run", "newest_checkpoint"]


def create_run_folder(save_dir: Path) -> Path:
    """Make a new folder named after the time; a number follows where that name is taken."""
    save_dir.mkdir(parents=True, exist_ok=True)
    base = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    for attempt in range(1, 1000):
        folder = save_dir / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise TrainingError(f"no free name for a run folder under {save_dir}")


def latest_run(save_dir: Path) -> Path:
    """The newest run folder by name.

    Raises:
        MissingPathError: there is none.
    """
    runs = [path for path in save_dir.glob("[0-9]*_[0-9]*") if path.is_dir()] if save_dir.is_dir() else []
    if not runs:
        raise MissingPathError(f"there is no run to resume under {save_dir}; start one without --resume")
    return max(runs, key=_order)


def _order(folder: Path) -> tuple[str, int]:
    stamp, _, attempt = folder.name.partition("-")
    return stamp, int(attempt) if attempt.isdecimal() else 1


def checkpoint_to_resume(resume: bool | str, *, save_dir: Path) -> Path:
    """The checkpoint folder that ``training.resume`` means: of the latest run, or of the named run or checkpoint.

    Raises:
        MissingPathError: the path does not exist, or there is no run.
        CheckpointError: the run has no complete checkpoint, or the path is neither a run nor a checkpoint.
    """
    path = latest_run(save_dir) if isinstance(resume, bool) else Path(resume)
    if not path.is_dir():
        raise MissingPathError(f"{path} to resume from does not exist; give a run folder or a checkpoint folder")
    if (path / "state.json").is_file():
        return path.resolve()
    if newest := newest_checkpoint(path):
        return newest
    raise CheckpointError(
        f"run {path} has no complete checkpoint to resume from; remove that folder, or start without --resume"
    )


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The checkpoint that ``last`` names, else the newest one; null if the folder has no complete checkpoint."""
    if not run_folder.is_dir():
        return None
    last = run_folder / "last"
    if last.is_dir():
        return last.resolve()
    complete = list_checkpoints(run_folder)
    return complete[-1].resolve() if complete else None


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the run for this process while the block runs.

    Raises:
        TrainingError: another process trains in this folder.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise TrainingError(f"another process is training in {folder}; wait for it or stop it") from error
    try:
        yield
    finally:
        os.close(descriptor)
