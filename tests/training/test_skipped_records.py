"""Damaged records that are left out are counted, each once (promise D1)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facerec.config.schema import Config
from facerec.fsio import write_manifest
from facerec.training.checkpoint import read_state
from facerec.training.loop import train
from facerec.training.session import Session
from facerec.training.summary import describe_summary, read_summary
from tests.packs import damage_picture, write_pack
from tests.training.conftest import RecordingTracker
from tests.training.test_resume import interrupt_at

MakeConfig = Callable[..., Config]


@pytest.fixture
def damaged(tmp_path: Path, pack_folder: Path) -> Path:
    """A pack of 64 pictures, of which that with the key 12 is none any more."""
    folder = write_pack(tmp_path / "damaged")
    damage_picture(folder, identity=1, picture=3)
    shutil.copy(pack_folder / "people.bin", folder)
    return folder


def skipped(run: Path) -> int:
    number: int = read_summary(run)["skipped_records"]
    return number


def test_a_record_counts_once_however_often_its_turn_comes(make_config: MakeConfig, damaged: Path) -> None:
    tracker = RecordingTracker()
    run = train(make_config(data__root=str(damaged), data__on_bad_record="skip"), tracker=tracker).run_folder
    # Its turn comes in each of three epochs.
    curve = tracker.curve("train/skipped_records")
    assert set(curve.values()) == {1.0}
    assert list(curve)[-1] == 12
    assert skipped(run) == 1
    assert "skipped      1 damaged record\n" in describe_summary(read_summary(run)) + "\n"


def test_a_sound_pack_has_no_count(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    run = train(make_config(data__on_bad_record="skip", training__epochs=1), tracker=tracker).run_folder
    assert tracker.curve("train/skipped_records") == {}
    assert skipped(run) == 0
    assert "skipped" not in describe_summary(read_summary(run))


def test_the_count_goes_on_where_a_run_does(make_config: MakeConfig, damaged: Path, tmp_path: Path) -> None:
    changes = {"data__root": str(damaged), "data__on_bad_record": "skip", "training__epochs": 1}
    whole = RecordingTracker()
    train(make_config(checkpoint__save_dir=str(tmp_path / "whole"), **changes), tracker=whole)
    met_at = min(whole.curve("train/skipped_records"))
    assert met_at < 4, "the record must come before the last step, so that the rest of the epoch is free of it"
    run = interrupt_at(make_config(**changes), met_at)
    assert read_state(run / "last").skipped_keys == [12]
    tracker = RecordingTracker()
    train(make_config(training__resume=True, **changes), tracker=tracker)
    assert set(tracker.curve("train/skipped_records").values()) == {1.0}
    assert skipped(run) == 1


def test_a_checkpoint_of_an_earlier_version_has_no_count_and_can_be_resumed(make_config: MakeConfig) -> None:
    run = interrupt_at(make_config(), 2)
    folder = run / "step-00000002"
    content = json.loads((folder / "state.json").read_text())
    del content["skipped_keys"], content["pair_sets"]
    (folder / "state.json").write_text(json.dumps(content))
    write_manifest(folder, format=content["format"], step=2)
    result = train(make_config(training__resume=True), tracker=RecordingTracker())
    assert result.last is not None
    assert result.last.epoch == 3
    assert skipped(run) == 0


def test_what_several_processes_leave_out_is_joined(make_config: MakeConfig) -> None:
    asked: list[list[int]] = []

    def gather(rows: np.ndarray) -> list[np.ndarray]:
        asked.append(rows.tolist())
        return [rows, np.array([3, 9]), np.array([], dtype=np.int64)]

    def session(policy: str) -> Any:
        return SimpleNamespace(
            config=make_config(data__on_bad_record=policy),
            earlier_skips={2, 9},
            loader=SimpleNamespace(skipped_keys={5: "damaged", 3: "damaged"}),
            world=SimpleNamespace(gather_rows=gather),
        )

    assert Session.skipped_keys(session("skip")) == [2, 3, 5, 9]
    assert asked == [[3, 5]]
    # Where the first damaged record ends the training, nobody has to be asked.
    assert Session.skipped_keys(session("fail")) == [2, 9]
    assert asked == [[3, 5]]
