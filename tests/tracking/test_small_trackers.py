"""Trackers that need no store, and the choice between all of them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facerec.config.schema import Config, LoggingConfig
from facerec.errors import ConfigError, TrackingError
from facerec.tracking.build import build_tracker
from facerec.tracking.group import TrackerGroup
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.null import NullTracker
from facerec.tracking.tensorboard_tracker import TensorBoardTracker

# Not sys.path: a test that loads a served model adds that model's own copy of the package to it.
REPOSITORY = Path(__file__).resolve().parents[2]


class Recorder:
    """Remembers calls; ``refuses`` names methods that raise."""

    def __init__(self, *, run_id=None, refuses=()):
        self.run_id = run_id
        self.calls = []
        self._refuses = refuses

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append((name, *args, *kwargs.values()))
            if name in self._refuses:
                raise TrackingError(f"{name} refused")

        return call


def test_a_group_hands_every_call_to_each_tracker(describe):
    first, second = Recorder(), Recorder(run_id="abc")
    group = TrackerGroup([first, second])
    run = describe()
    group.start(run)
    group.log_metrics({"loss": 0.5}, step=1)
    group.log_file(Path("x"), folder="plots")
    group.set_tags({"a": "b"})
    group.finish("FAILED", reason="why")
    assert first.calls == second.calls
    assert first.calls == [
        ("start", run),
        ("log_metrics", {"loss": 0.5}, 1),
        ("log_file", Path("x"), "plots"),
        ("set_tags", {"a": "b"}),
        ("finish", "FAILED", "why"),
    ]
    assert group.run_id == "abc"


def test_a_group_closes_every_tracker_even_where_one_fails():
    first, second = Recorder(refuses=("finish",)), Recorder()
    with pytest.raises(TrackingError):
        TrackerGroup([first, second]).finish("FINISHED")
    assert second.calls == [("finish", "FINISHED", "")]


def test_a_group_that_cannot_start_leaves_no_run_open(describe):
    first, second = Recorder(), Recorder(refuses=("start",))
    with pytest.raises(TrackingError):
        TrackerGroup([first, second]).start(describe())
    assert [call[:2] for call in first.calls][1:] == [("finish", "FAILED")]


def test_nothing_is_recorded_by_the_null_tracker(describe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = NullTracker()
    tracker.start(describe())
    tracker.log_metrics({"loss": 0.5}, step=0)
    tracker.log_file(Path("x"))
    tracker.set_tags({})
    tracker.finish("FINISHED")
    assert tracker.run_id is None
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_curves(describe, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoardTracker(folder=tmp_path)
    tracker.log_metrics({"early": 1.0}, step=0)
    tracker.start(describe())
    for step in range(5):
        tracker.log_metrics({"train/loss": step / 2, "bad": float("nan")}, step=step)
    tracker.log_file(tmp_path)
    tracker.set_tags({"best": "3"})
    tracker.finish("FINISHED", reason="done")
    tracker.finish("FINISHED")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (step, step / 2) for step in range(5)
    ]
    assert {"run/params/text_summary", "run/tags/text_summary"} <= set(events.Tags()["tensors"])
    assert tracker.run_id is None


def test_runs_have_a_folder_each_and_one_that_goes_on_shows_no_step_twice(describe, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def log(steps, value, **run):
        tracker = TensorBoardTracker(folder=tmp_path)
        tracker.start(describe(**run))
        for step in steps:
            tracker.log_metrics({"train/loss": value}, step=step)
        tracker.finish("FINISHED")

    log(range(1, 8), 1.0, folder_name="first")
    log(range(1, 4), 3.0, folder_name="second")
    # The first was killed after step 7, and its newest checkpoint is that of step 5.
    log(range(6, 10), 2.0, folder_name="first", resume_step=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    events = EventAccumulator(str(tmp_path / "first"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, 1.0) for step in range(1, 6)] + [(step, 2.0) for step in range(6, 10)]


def test_a_folder_that_cannot_be_written_ends_no_training(describe, tmp_path, caplog):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    (tmp_path / "file").touch()
    tracker = TensorBoardTracker(folder=tmp_path / "file" / "events")
    tracker.start(describe())
    tracker.log_metrics({"loss": 0.5}, step=0)
    tracker.finish("FAILED")
    assert "no longer written" in caplog.text


def test_tensorboard_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="install the extra 'tensorboard'"):
        TensorBoardTracker(folder=tmp_path)


def test_choosing_a_tracker_and_asking_for_help_load_no_heavy_library():
    check = (
        "import sys, facerec.tracking.build, facerec.tracking.health.examine, facerec.cli.doctor, facerec.cli.sync\n"
        "assert not {'mlflow', 'torch', 'psutil', 'tensorboard'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", check], env=environment, check=False).returncode == 0


def config(**logging):
    return Config(logging=LoggingConfig(**logging))


@pytest.mark.parametrize(
    ("logging", "kind"),
    [
        ({"mlflow": True}, MlflowTracker),
        ({"mlflow": False}, NullTracker),
        ({"mlflow": False, "tensorboard": True}, TensorBoardTracker),
        ({"mlflow": True, "tensorboard": True}, TrackerGroup),
    ],
)
def test_the_configuration_chooses_the_tracker(clean_environment, logging, kind):
    assert type(build_tracker(config(**logging), log_folder=clean_environment)) is kind


def test_only_rank_0_records(clean_environment, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert type(build_tracker(config(), log_folder=clean_environment)) is NullTracker
