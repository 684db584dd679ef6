"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from facerec.errors import FacerecError
from facerec.process import available_cores
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.tuning.plan import StudyPlan

__all__ = ["run_workers", "worker_environment"]

_POLL_S = 0.2


def run_workers(
    command: Sequence[str], *, count: int, plan: StudyPlan, stop: Interrupt, tell: Callable[[str], None]
) -> None:
    """Start ``count`` workers and wait for all; a worker that dies is told of, and the others take over its trial.

    What trainings print goes to ``workers/N.log`` in the study's folder.

    Raises:
        TrainingInterrupted: a signal asked to stop; every worker has been told and has ended.
        FacerecError: a worker cannot be started; those before it have been told and have ended.
    """
    logs = plan.folder / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, workers)
        # One by one, so that those before one that cannot be started are in the list.
        workers.extend(_start(command, index, count, plan, logs, stack) for index in range(count))
        _wait(workers, stop, tell)
    if stop.signal_number is not None:
        name = signal.Signals(stop.signal_number).name
        raise TrainingInterrupted(
            f"stopped by {name}, and {count} workers with it; the same command goes on",
            signal_number=stop.signal_number,
        )


def worker_environment(index: int, *, count: int, nproc: int) -> dict[str, str]:
    """The environment of one worker: its own GPU or GPUs where there are any, and its share of the cores."""
    environment = dict(os.environ)
    devices = _gpus()
    if devices:
        first = index * nproc % len(devices)
        environment["CUDA_VISIBLE_DEVICES"] = ",".join((devices * 2)[first : first + nproc])
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // (count * nproc))))
    return environment


def _gpus() -> list[str]:
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one.strip() for one in visible.split(",") if one.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def _start(
    command: Sequence[str], index: int, count: int, plan: StudyPlan, logs: Path, stack: ExitStack
) -> subprocess.Popen[bytes]:
    try:
        log = stack.enter_context((logs / f"{index}.log").open("ab"))
        return subprocess.Popen(
            list(command),
            env=worker_environment(index, count=count, nproc=plan.study.nproc),
            stdin=subprocess.DEVNULL,
            # What a worker tells of its trials is for people; what its trainings log goes to the file.
            stdout=sys.stderr.fileno(),
            stderr=log,
        )
    except OSError as error:
        raise FacerecError(f"worker {index} of {count} cannot be started: {error}; give fewer --workers") from error


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    for worker in workers:
        worker.wait()


def _wait(workers: list[subprocess.Popen[bytes]], stop: Interrupt, tell: Callable[[str], None]) -> None:
    running = dict(enumerate(workers))
    is_told = False
    while running:
        if stop.requested and not is_told:
            is_told = True
            for worker in running.values():
                worker.send_signal(signal.SIGTERM)
        for index, worker in list(running.items()):
            code = worker.poll()
            if code is None:
                continue
            del running[index]
            if code and not stop.requested:
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                tell(f"worker {index} (process {worker.pid}) was {how}; {len(running)} go on")
        time.sleep(_POLL_S)
