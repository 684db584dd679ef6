"""`facerec tune` on real trainings that is killed or stopped: the same command goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from facerec.tuning.history import read_history
from facerec.tuning.locate import find_study
from facerec.tuning.slots import INTERRUPTED, KILLED, LOST_ATTR, counted_trials
from tests.tuning.test_training import write_base, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).resolve().parents[2]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "facerec", "tune", "--study", str(folder / "study.yaml"), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], *, what: str, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def evaluated(folder: Path, slot: str) -> list[int]:
    """Epochs that the run of a slot has evaluated so far."""
    runs = list((folder / "tuning" / "tiny" / "trials" / slot).glob("2*"))
    return [entry.epoch for entry in read_history(runs[0])] if runs else []


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_in_the_same_run(tmp_path: Path) -> None:
    write_base(tmp_path)
    write_study(tmp_path, set={"training.epochs": 40}, budget={"trials": 1}, confirm={"top_k": 0})
    first = start(tmp_path)
    wait_for(lambda: len(evaluated(tmp_path, "0000")) >= 3, what="three evaluations")
    first.kill()
    first.communicate(timeout=60)
    before = evaluated(tmp_path, "0000")
    assert len(before) < 40
    again = start(tmp_path, "--json")
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "trial 0: its worker is gone" in errors
    assert json.loads(output)["counts"]["lost and repeated"] == 1
    assert evaluated(tmp_path, "0000") == list(range(1, 41))
    lost, repeated = find_study(str(tmp_path / "tuning" / "tiny")).search.trials()
    assert lost.user_attrs[LOST_ATTR] == KILLED
    assert repeated.user_attrs["facerec.retry_of"] == 0
    # The pruner knows of the epochs that the dead worker had trained, and none of them was trained again.
    assert sorted(repeated.intermediate_values) == list(range(1, 41))
    assert len(lost.intermediate_values) >= 2
    assert repeated.intermediate_values.items() >= lost.intermediate_values.items()
    assert len(list((tmp_path / "tuning" / "tiny" / "trials" / "0000").glob("2*"))) == 1


def test_a_signal_to_a_pool_stops_every_worker_and_the_same_command_goes_on(tmp_path: Path) -> None:
    write_base(tmp_path)
    write_study(tmp_path, set={"training.epochs": 30}, budget={"trials": 3}, confirm={"top_k": 0})
    pool = start(tmp_path, "--workers", "2")
    wait_for(lambda: bool(evaluated(tmp_path, "0000") and evaluated(tmp_path, "0001")), what="two trainings")
    workers = psutil.Process(pool.pid).children()
    pool.send_signal(signal.SIGTERM)
    _, errors = pool.communicate(timeout=120)
    assert pool.returncode == 128 + signal.SIGTERM, errors
    assert "stopped by SIGTERM, and 2 workers with it; the same command goes on" in errors
    assert not [worker for worker in workers if worker.is_running()]
    study = find_study(str(tmp_path / "tuning" / "tiny"))
    ended = [trial for trial in study.search.trials() if trial.state.is_finished()]
    assert {trial.user_attrs[LOST_ATTR] for trial in ended} == {INTERRUPTED}
    again = start(tmp_path)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    holders = counted_trials(study.search.trials())
    assert [trial.state.name for trial in holders] == ["COMPLETE"] * 3
    assert [evaluated(tmp_path, f"{slot:04d}") for slot in range(3)] == [list(range(1, 31))] * 3
