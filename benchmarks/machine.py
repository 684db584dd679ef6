"""What a measurement ran on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

import psutil

__all__ = ["describe_machine", "has_cuda", "others_share"]


@functools.cache
def describe_machine() -> str:
    """Processor, cores, memory, GPU and versions, in one line."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_gb = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if has_cuda() else "no GPU"
    versions = f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    return f"{cores} cores of {_processor()}, {memory_gb:.0f} GiB, {gpu}; {platform.system()}, {versions}"


@functools.cache
def has_cuda() -> bool:
    """Whether torch can compute on a GPU here."""
    import torch

    return torch.cuda.is_available()


def others_share(seconds: float = 2.0) -> float:
    """The share of the processor that is in use while this process waits, in [0, 1]."""
    return psutil.cpu_percent(interval=seconds) / 100


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
