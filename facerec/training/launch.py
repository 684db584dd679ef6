"""Start several processes of the same command on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence

from facerec.process import available_cores

__all__ = ["ENDS_WITH", "SECONDS_TO_SAVE", "launch"]

ENDS_WITH = "FACEREC_ENDS_WITH"
"""Environment variable: the number of the starting process, whose death counts as a SIGTERM."""
SECONDS_TO_SAVE = 300


def launch(arguments: Sequence[str], *, processes: int) -> int:
    """Run ``python -m facerec`` with ``arguments`` in ``processes`` processes; the exit code that the command has.

    A signal goes to all of them, and they have five minutes to save. Where one fails, the others are stopped and its
    exit code is returned. For several machines or restarts use ``python -m torch.distributed.run``.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_SAVE))
    if parent := os.environ.pop(ENDS_WITH, ""):
        threading.Thread(target=_end_with, args=(int(parent),), name="end-with-parent", daemon=True).start()
    # The processes share the cores; torch would start a thread per core in each of them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        local_addr="localhost",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "facerec", *arguments)
    except ChildFailedError as failed:
        first = min(failed.failures.values(), key=lambda failure: failure.timestamp)
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
