"""Which checkpoints are kept, and what a disk that removes nothing does to a training: nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facerec.config.schema import Config
from facerec.errors import CheckpointError
from facerec.fsio import write_manifest
from facerec.training.checkpoint import list_checkpoints, prune, read_state, set_aside_later
from facerec.training.loop import train
from tests.training.conftest import RecordingTracker

MakeConfig = Callable[..., Config]


def make_run(folder: Path, *steps: int) -> Path:
    for step in steps:
        checkpoint = folder / f"step-{step:08d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text("{}")
    return folder


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let nothing be removed whose name holds a text."""

    def refuse(part: str) -> None:
        original = shutil.rmtree

        def remove(path: Path, *arguments: Any, **settings: Any) -> None:
            if part in Path(path).name:
                raise PermissionError(13, "Permission denied", str(path))
            original(path, *arguments, **settings)

        monkeypatch.setattr(shutil, "rmtree", remove)

    return refuse


def test_the_newest_stay_and_those_with_a_name(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, 2, 3, 4, 5)
    (run / "best").symlink_to("step-00000002")
    (run / "last").symlink_to("step-00000005")
    (run / ".partial-step-00000006-abc").mkdir()
    assert prune(run, keep_last_n=2) == []
    assert names(run) == ["best", "last", "step-00000002", "step-00000004", "step-00000005"]


def test_a_checkpoint_that_is_half_removed_is_none(tmp_path: Path, stubborn: Callable[[str], None]) -> None:
    run = make_run(tmp_path, 1, 2, 3)
    stubborn("step-00000001")
    (failure,) = prune(run, keep_last_n=1)
    assert "Permission denied" in str(failure)
    # The other one is gone all the same.
    assert [path.name for path in list_checkpoints(run)] == ["step-00000003"]
    assert names(run) == [".partial-step-00000001-old", "step-00000003"]


def test_a_checkpoint_that_cannot_be_removed_ends_no_training(
    make_config: MakeConfig, stubborn: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    stubborn("step-00000004")
    tracker = RecordingTracker()
    # Watched by the loss, every epoch is better than the one before, whose checkpoint goes.
    config = make_config(training__epochs=4, checkpoint__keep_last_n=1, eval__bin_file=None)
    result = train(config, tracker=tracker)
    assert tracker.status == "FINISHED"
    assert (result.run_folder / "last").resolve().name == "step-00000016"
    assert "an old checkpoint could not be removed ([Errno 13] Permission denied" in caplog.text


def test_what_is_set_aside_replaces_what_was_set_aside_before(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, 2, 3)
    (run / "replaced-step-00000002").mkdir()
    assert set_aside_later(run, step=1) == ["replaced-step-00000002", "replaced-step-00000003"]
    assert names(run) == ["replaced-step-00000002", "replaced-step-00000003", "step-00000001"]
    assert (run / "replaced-step-00000002" / "state.json").exists()


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"format": 3}, "has checkpoint format 3; this version reads up to 2"),
        ({"format": 2, "epoch": 1}, "cannot be used"),
        ({"epoch": 1}, "cannot be used"),
        ("no object", "cannot be used"),
    ],
)
def test_a_state_of_another_version_is_named(tmp_path: Path, state: object, problem: str) -> None:
    (tmp_path / "state.json").write_text(json.dumps(state))
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=problem):
        read_state(tmp_path)
