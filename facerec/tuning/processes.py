"""A trial in several processes, one per GPU, started as ``facerec train --nproc N``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from facerec.config.load import dump_yaml
from facerec.config.schema import Config
from facerec.errors import MissingPathError, TrainingError
from facerec.fsio import atomic_write_text
from facerec.training.history import Evaluation
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.training.launch import ENDS_WITH
from facerec.training.run_folder import latest_run
from facerec.tuning.history import history_before, read_history

__all__ = ["train_in_processes"]

_POLL_S = 0.5


def train_in_processes(config: Config, *, processes: int, on_evaluation: Callable[[Evaluation], None]) -> Path:
    """Train and watch the history that the first process writes; returns the run folder.

    What the processes print goes to ``train.log`` beside the configuration in ``checkpoint.save_dir``.

    Raises:
        TrainingInterrupted: a signal asked to stop; the processes have saved and ended.
        TrainingStopped: ``on_evaluation`` has raised it; likewise.
        TrainingError: the training has failed.
    """
    place = Path(config.checkpoint.save_dir)
    place.mkdir(parents=True, exist_ok=True)
    atomic_write_text(place / "trial.yaml", dump_yaml(config))
    known = len(history_before(Path(str(config.training.resume)))) if config.training.resume else 0
    earlier = set(place.glob("[0-9]*_[0-9]*")) if not config.training.resume else set()
    # A run that `mlflow run` has opened is the study's, not this trial's.
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    environment[ENDS_WITH] = str(os.getpid())
    with Interrupt() as stop, (place / "train.log").open("ab") as log:
        # A repeated trial finds the log of its earlier attempts.
        begins_at = log.tell()
        command = [sys.executable, "-m", "facerec", "train", "--config", str(place / "trial.yaml")]
        command += ["--nproc", str(processes)]
        training = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            while training.poll() is None and not stop.requested:
                known = _tell_new(place, earlier, known, on_evaluation)
                time.sleep(_POLL_S)
        except BaseException:
            _end(training)
            raise
        if stop.signal_number is not None:
            _end(training)
            name = signal.Signals(stop.signal_number).name
            raise TrainingInterrupted(f"stopped by {name}; the same command goes on", signal_number=stop.signal_number)
    _tell_new(place, earlier, known, on_evaluation)
    if training.returncode != 0:
        raise TrainingError(_last_error(place / "train.log", training.returncode, begins_at=begins_at))
    return _run_folder(place)


def _tell_new(place: Path, earlier: set[Path], known: int, on_evaluation: Callable[[Evaluation], None]) -> int:
    folder = _run_folder(place)
    if folder in earlier:
        return known
    evaluations = read_history(folder)
    for evaluation in evaluations[known:]:
        known += 1
        on_evaluation(evaluation)
    return known


def _run_folder(place: Path) -> Path:
    try:
        return latest_run(place)
    except MissingPathError:
        return place


def _end(training: subprocess.Popen[bytes]) -> None:
    if training.poll() is None:
        training.send_signal(signal.SIGTERM)
    training.wait()


def _last_error(log: Path, code: int, *, begins_at: int) -> str:
    lines = log.read_bytes()[begins_at:].decode("utf-8", errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return told[-1] if told else f"the processes of the trial ended with code {code}; see {log}"
