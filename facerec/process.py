"""Which process something belongs to, whether it still lives, and which cores and memory this one may use."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import sys
from pathlib import Path

__all__ = [
    "available_cores",
    "cpu_flags",
    "cpu_has_bfloat16",
    "cpu_model",
    "host_name",
    "is_same_process",
    "keep_freed_memory",
    "pid_namespace",
    "process_started",
]

_CLOCK_TOLERANCE_S = 5.0
_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
_CPU_FILE = Path("/proc/cpuinfo")
_KEEP_FREED_MEMORY = ((-4, 0), (-1, -1))
"""M_MMAP_MAX: no allocation is a mapping of its own; M_TRIM_THRESHOLD: the heap is never cut back (``malloc.h``)."""


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA_FILE.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return min(cores, max(1, int(quota) // int(period))) if quota.isdecimal() else cores


def keep_freed_memory() -> bool:
    """Have the C library keep what torch frees on the CPU for its next tensor; returns whether it does that now.

    Otherwise every tensor of more than 32 MiB is a new mapping, the end of the heap is given back after every batch,
    and the system clears their pages when they are first written: a tenth of a step's time, a fifth of an embedding's.
    The process then holds its peak of memory until it ends. Only glibc has this; another allocator, preloaded in its
    place, does it by itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _KEEP_FREED_MEMORY)


def cpu_flags() -> frozenset[str]:
    """What the processor says that it can do, in the kernel's words; empty where that is not told."""
    return frozenset((_cpu_fact("flags") or _cpu_fact("Features")).split())


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 itself."""
    return not cpu_flags().isdisjoint(("avx512_bf16", "amx_bf16"))


def cpu_model() -> str:
    """The processor's name."""
    return _cpu_fact("model name") or "CPU"


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def process_started() -> str:
    """When this process began, in seconds since 1970; with the process number it names the process for good."""
    import psutil

    return f"{psutil.Process().create_time():.2f}"


def pid_namespace() -> str:
    """What distinguishes containers, and machines of one name, whose process numbers say nothing here; may be empty."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"{_machine()}{namespace}"


def _machine() -> str:
    # All machines call the namespace of their first process the same. The number itself is for nobody else to read.
    try:
        with open("/etc/machine-id", "rb") as stream:
            number = stream.read().strip()
    except OSError:
        return ""
    return f"{hashlib.sha256(b'facerec' + number).hexdigest()[:12]} " if number else ""


def is_same_process(pid: int, started: str) -> bool:
    """Whether the process of that number lives and, where ``started`` is known, began then."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not started or abs(process.create_time() - float(started)) <= _CLOCK_TOLERANCE_S
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, ValueError):
        return True


def _cpu_fact(field: str) -> str:
    try:
        text = _CPU_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
