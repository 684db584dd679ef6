"""Workers of a study: none is left behind, whatever keeps a later one from starting."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facerec.errors import FacerecError
from facerec.training.interrupt import Interrupt
from facerec.tuning.plan import load_study
from facerec.tuning.pool import run_workers
from tests.tuning.synthetic import make_study

_SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_workers_before_one_that_cannot_be_started_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def start_two(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
        if len(started) == 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        # The test's own standard error has no descriptor of its own.
        started.append(start(*arguments, **{**settings, "stdout": subprocess.DEVNULL}))
        return started[-1]

    monkeypatch.setattr("facerec.tuning.pool.subprocess.Popen", start_two)
    monkeypatch.setattr("facerec.tuning.pool.sys.stderr", sys.__stderr__)
    plan = load_study(make_study(tmp_path))
    with Interrupt() as stop, pytest.raises(FacerecError, match=r"worker 2 of 3 cannot be started: .*unavailable"):
        run_workers(_SLEEPER, count=3, plan=plan, stop=stop, tell=print)
    assert [worker.poll() is not None for worker in started] == [True, True]
