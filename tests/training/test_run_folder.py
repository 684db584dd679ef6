"""Run folders: new ones never collide, and a resume finds the right one or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from facerec.errors import CheckpointError, MissingPathError, TrainingError
from facerec.training.run_folder import checkpoint_to_resume, create_run_folder, latest_run, lock_run


def make_checkpoint(run: Path, step: int) -> Path:
    folder = run / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    return folder


def test_runs_of_one_second_get_their_own_folders_and_the_newest_is_the_latest(tmp_path: Path) -> None:
    runs = [create_run_folder(tmp_path / "runs") for _ in range(12)]
    assert len(set(runs)) == 12
    assert latest_run(tmp_path / "runs") == runs[-1]


def test_nothing_to_resume_is_said_and_never_a_fresh_start(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no run to resume under"):
        checkpoint_to_resume(True, save_dir=tmp_path / "nowhere")
    create_run_folder(tmp_path)
    with pytest.raises(CheckpointError, match="has no complete checkpoint"):
        checkpoint_to_resume(True, save_dir=tmp_path)
    with pytest.raises(MissingPathError, match="does not exist"):
        checkpoint_to_resume(str(tmp_path / "other"), save_dir=tmp_path)


def test_resume_takes_last_of_the_latest_run_or_what_is_named(tmp_path: Path) -> None:
    old, new = create_run_folder(tmp_path), create_run_folder(tmp_path)
    for run in (old, new):
        make_checkpoint(run, 5)
        make_checkpoint(run, 10)
    (new / "last").symlink_to("step-00000005")
    assert checkpoint_to_resume(True, save_dir=tmp_path) == new / "step-00000005"
    assert checkpoint_to_resume(str(old), save_dir=tmp_path) == old / "step-00000010"
    assert checkpoint_to_resume(str(old / "step-00000005"), save_dir=tmp_path) == old / "step-00000005"


def test_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    with lock_run(tmp_path), pytest.raises(TrainingError, match="another process is training"), lock_run(tmp_path):
        pass
    with lock_run(tmp_path):
        pass
