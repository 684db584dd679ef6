"""What a study reads of the folder of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from facerec.training.history import Evaluation
from facerec.tuning.history import recorded_run
from facerec.tuning.trial import _noting_run
from facerec.tuning.worker import Job


def write_checkpoint(run: Path, *, step: int, run_id: str | None) -> Path:
    checkpoint = run / f"step-{step:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"tracker_run_id": run_id}))
    (run / "last").unlink(missing_ok=True)
    (run / "last").symlink_to(checkpoint.name)
    return checkpoint


def test_the_newest_checkpoint_names_the_run_of_the_store(tmp_path: Path) -> None:
    assert recorded_run(tmp_path / "nowhere") is None
    write_checkpoint(tmp_path, step=2, run_id="pending-1")
    newest = write_checkpoint(tmp_path, step=4, run_id="abc")
    assert recorded_run(tmp_path) == "abc"
    (newest / "state.json").unlink()
    assert recorded_run(tmp_path) is None


def test_the_run_of_other_processes_is_noted_once_and_before_the_pruner_is_asked(tmp_path: Path) -> None:
    told: list[Any] = []
    job = Job(
        number=0,
        slot="0000",
        values={},
        attrs={},
        is_retry=False,
        report=lambda epoch, value: None,
        constrain=lambda name, value: None,
        note=lambda name, value: told.append((name, value)),
    )
    watch = _noting_run(lambda evaluation: told.append(evaluation.epoch), job, save_dir=tmp_path)
    write_checkpoint(tmp_path / "20260101_000000", step=2, run_id="abc")
    first = Evaluation(epoch=1, step=2, metrics={})
    watch(first)
    watch(dataclasses.replace(first, epoch=2, step=4))
    assert told == [("facerec.run_id", "abc"), 1, 2]
