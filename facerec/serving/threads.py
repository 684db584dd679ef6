"""How many threads of torch a server process gets."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from facerec.process import available_cores

__all__ = ["limit_threads", "threads_for"]


def limit_threads() -> int:
    """Give this process its share of the cores, unless ``OMP_NUM_THREADS`` says otherwise; returns the number."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads_for(cores=available_cores(), workers=_workers()))
    return torch.get_num_threads()


def threads_for(*, cores: int, workers: int) -> int:
    """Threads of each of ``workers`` processes on ``cores`` cores; at least one."""
    return max(1, cores // max(1, workers))


def _workers() -> int:
    """Processes of the server: uvicorn tells its children nothing, so its own command line is read."""
    words = os.environ.get("WEB_CONCURRENCY", "")
    try:
        command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        command = []
    if "--workers" in command[:-1]:
        words = command[command.index("--workers") + 1]
    return int(words) if words.isdecimal() else 1
