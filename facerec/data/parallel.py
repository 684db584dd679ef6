"""Work on many items in worker processes, with results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from typing import TypeVar

from facerec.errors import DataError, UsageError
from facerec.process import available_cores

__all__ = ["count_workers", "ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD_PER_WORKER = 4
_FEW_ITEMS = 500


def count_workers(wanted: int | None, *, num_items: int | None = None) -> int:
    """The number of worker processes: what is wanted, or one for each processor where nothing is said.

    For few items none is started unless it is asked for, as that takes longer than the work.

    Raises:
        UsageError: the number is negative.
    """
    if wanted is None:
        return 0 if num_items is not None and num_items < _FEW_ITEMS else available_cores()
    if wanted < 0:
        raise UsageError(f"{wanted} workers are not possible; give 0 to work in this process, or a number of processes")
    return wanted


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int = _AHEAD_PER_WORKER
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in their order; with fewer than two workers in this process.

    At most ``ahead`` items per worker are under way, so that neither items nor results fill the memory. Workers are
    spawned, so ``function`` and the items must be picklable; they end with this process, however it ends.

    Raises:
        DataError: a worker died.
    """
    if workers < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_live_with_parent)
    try:
        pending.extend(pool.submit(function, item) for item in islice(remaining, workers * ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    except BrokenProcessPool as error:
        raise DataError("a worker process was killed; where memory ran out, use fewer workers (--workers)") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _live_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends: the pool's own queues do not notice that it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers run this"
    wait([parent.sentinel])
    os._exit(1)
