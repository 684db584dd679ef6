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
from facerec.tuning.pool import run_workers, worker_environment
from tests.tuning.synthetic import make_study


@pytest.mark.parametrize(
    ("visible", "nproc", "expected"),
    [
        (None, 1, ["0", "1", "2", "3", "0"]),
        (None, 2, ["0,1", "2,3", "0,1", "2,3", "0,1"]),
        (None, 3, ["0,1,2", "3,0,1", "2,3,0", "1,2,3", "0,1,2"]),
        ("2, 5", 1, ["2", "5", "2", "5", "2"]),
        ("", 1, ["", "", "", "", ""]),
    ],
)
def test_each_worker_has_its_own_devices_as_far_as_they_go(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, nproc: int, expected: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given = [worker_environment(index, count=5, nproc=nproc)["CUDA_VISIBLE_DEVICES"] for index in range(5)]
    assert given == expected


def test_without_gpus_workers_share_the_cores_unless_the_user_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("facerec.tuning.pool.available_cores", lambda: 8)
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    environment = worker_environment(0, count=3, nproc=1)
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert environment["OMP_NUM_THREADS"] == "2"
    assert worker_environment(0, count=2, nproc=2)["OMP_NUM_THREADS"] == "2"
    assert worker_environment(0, count=9, nproc=1)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert worker_environment(0, count=3, nproc=1)["OMP_NUM_THREADS"] == "5"


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
