"""Worker processes that start quietly, end quietly, and pass errors on whole."""

from __future__ import annotations

import copy
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any, Literal

from torch.utils.data import Dataset

from facerec.data.dataset import FaceBatch, FaceDataset
from facerec.data.sampler import BatchRequest
from facerec.errors import DataError, FacerecError

__all__ = [
    "ErrorsAsValues",
    "StartMethod",
    "expected_warnings",
    "start_method",
    "starting_workers",
    "stay_until_trainer_ends",
    "worker_context",
    "worker_deaths_explained",
]

StartMethod = Literal["fork", "spawn"]
"""The ways in which the trainer is the parent of its workers, by which they know its SIGTERM from others'."""

_HELD = frozenset({signal.SIGINT, signal.SIGTERM})
_SECONDS_BETWEEN_LOOKS = 5.0


def start_method() -> StartMethod:
    """How workers start: ``fork`` on Linux, ``spawn`` elsewhere.

    A forked worker starts in milliseconds and shares the pack's index. Forking is safe here because a worker touches
    neither CUDA nor a thread pool of its parent: it reads a file, calls simplejpeg, Pillow and numpy on one thread
    (torch sets that number in its workers), and talks to the trainer through queues made before the fork.
    """
    return "fork" if sys.platform == "linux" else "spawn"


def worker_context(method: StartMethod) -> BaseContext:
    """The context of multiprocessing in which workers start by ``method``, with events that nobody's death can lock.

    The event of multiprocessing has a lock even for reading. A worker that is killed while it looks at it, for want of
    memory perhaps, keeps that lock, and the trainer would wait for ever when it ends the other workers.
    """
    context: Any = copy.copy(multiprocessing.get_context(method))
    context.Event = functools.partial(_Flag, context)
    return context


class _Flag:
    """What torch uses of an event: one byte in shared memory."""

    def __init__(self, context: BaseContext) -> None:
        self._is_set = context.RawValue(ctypes.c_bool, False)

    def set(self) -> None:
        self._is_set.value = True

    def is_set(self) -> bool:
        return bool(self._is_set.value)


class ErrorsAsValues(Dataset[FaceBatch | FacerecError]):
    """Hands a `FacerecError` to the trainer as a value.

    torch would raise it again with the traceback of the worker for its message, and without its other attributes.
    """

    def __init__(self, dataset: FaceDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, request: BatchRequest) -> FaceBatch | FacerecError:
        """Make one batch, or say why not."""
        try:
            return self._dataset.__getitems__(request)
        except FacerecError as error:
            return error


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Silence what torch and Python say about workers that are as the configuration wants them."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn of every fork in a process with threads; `start_method` says why ours is safe.
        warnings.filterwarnings("ignore", message=r".*multi-threaded, use of fork", category=DeprecationWarning)
        # More workers than processors is a choice of the configuration.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


@contextmanager
def worker_deaths_explained() -> Iterator[None]:
    """Turn torch's reports of a dead worker into a sentence for users.

    Raises:
        DataError: a worker has died.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, FileNotFoundError, EOFError) as error:
        # A dead worker is reported as a RuntimeError, or as a socket that has gone with its last batch. What a worker
        # raises itself comes as "Caught ...".
        reported = str(error).startswith("DataLoader worker")
        if str(error).startswith("Caught ") or (isinstance(error, RuntimeError) and not reported):
            raise
        reason = str(error).split("\n")[0].rstrip(".") if reported else "it no longer answers"
        raise DataError(
            f"a data worker has died ({reason}); where memory or /dev/shm ran out, lower data.num_workers or "
            "data.batch_size"
        ) from error


@contextmanager
def starting_workers() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while workers start, so that the workers inherit that and never see them.

    Both often reach the whole process group (Ctrl-C, a batch system's stop). The trainer then finishes its step and
    saves; a worker that died, or wrote a traceback, would spoil that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        with expected_warnings():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stay_until_trainer_ends(worker_id: int, *, trainer: int) -> None:
    """Initialise a worker: SIGTERM ends it only when it comes from the trainer, which stops its workers in this way.

    A trainer that was killed needs no signal: its workers look every few seconds whether ``trainer``, its process
    number, is their parent still. So does torch, but a worker that starts after that death takes for the trainer
    whoever has inherited it.
    """
    if hasattr(signal, "sigtimedwait"):
        name = f"signals-of-worker-{worker_id}"
        threading.Thread(target=_heed_trainer, args=(trainer,), name=name, daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _heed_trainer(trainer: int) -> None:
    while os.getppid() == trainer:
        told = signal.sigtimedwait({signal.SIGTERM}, _SECONDS_BETWEEN_LOOKS)
        if told is not None and told.si_pid == trainer:
            break
    os._exit(0)
