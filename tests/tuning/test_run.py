"""A whole study by worker processes: when all of them have died, it is not finished."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from facerec.errors import FacerecError
from facerec.tuning.plan import load_study
from facerec.tuning.run import Workers, run_study
from tests.tuning.test_training import write_base, write_study
from tests.tuning.trackers import RememberingTracker


@pytest.mark.parametrize("bound", [{}, {"hours": 48.0}, {"epochs": 1000}], ids=["trials", "hours", "epochs"])
def test_a_study_whose_workers_have_all_failed_is_not_finished_and_loses_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: dict
) -> None:
    monkeypatch.setattr("facerec.tuning.pool.sys.stderr", sys.__stderr__)
    write_base(tmp_path)
    plan = load_study(write_study(tmp_path, budget={"trials": 3, **bound}, confirm={"top_k": 0}))
    checkpoint = plan.folder / "trials" / "0001" / "20260101_000000" / "step-00000002"
    checkpoint.mkdir(parents=True)
    told: list[str] = []
    tracker = RememberingTracker()
    workers = Workers(count=2, command=[sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(FacerecError, match="every worker of study tiny has ended and work is left"):
        run_study(plan, tracker=tracker, tell=told.append, workers=workers)
    assert tracker.ended == ["FAILED"]
    assert checkpoint.is_dir()
    assert len([line for line in told if "ended with code 1" in line]) == 2
