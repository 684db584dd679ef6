"""Processes of one training on this machine."""

from __future__ import annotations

import subprocess
import sys

import psutil

CHILD = """
import os
from facerec.training.launch import _end_with
parent = os.getppid()
print(os.getpid(), flush=True)
_end_with(parent)
"""


def test_processes_end_with_the_one_that_started_them_even_when_it_is_killed() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        orphan = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        _, alive = psutil.wait_procs([orphan], timeout=20)
    assert not alive
