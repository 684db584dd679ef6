"""A frozen backbone, averages and parts in whole trainings; and settings that cannot work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from facerec.config.schema import Config
from facerec.errors import ConfigError, DeviceError, TrainingError, UsageError
from facerec.registry import BACKBONES
from facerec.training.distributed import World, join_world
from facerec.training.interrupt import TrainingInterrupted
from facerec.training.loop import train
from tests.training import plain_backbone
from tests.training.conftest import RecordingTracker

MakeConfig = Callable[..., Config]


def checkpoint(run: Path, step: int, name: str) -> dict[str, torch.Tensor]:
    return load_file(run / f"step-{step:08d}" / f"{name}.safetensors")


def test_a_frozen_epoch_changes_the_head_alone_and_the_next_one_both(make_config: MakeConfig) -> None:
    config = make_config(training__epochs=2, training__freeze_backbone_epochs=1, checkpoint__keep_last_n=9)
    run = train(config, tracker=RecordingTracker()).run_folder
    start, frozen, free = (checkpoint(run, step, "model") for step in (0, 4, 8))
    assert all(torch.equal(start[name], frozen[name]) for name in start)  # Running statistics included.
    assert not torch.equal(frozen["conv1.weight"], free["conv1.weight"])
    assert not torch.equal(frozen["bn1.running_mean"], free["bn1.running_mean"])
    assert not torch.equal(checkpoint(run, 0, "head")["weight"], checkpoint(run, 4, "head")["weight"])


def test_a_pretrained_backbone_gets_a_new_head(make_config: MakeConfig) -> None:
    first = train(make_config(training__epochs=1), tracker=RecordingTracker()).run_folder
    trained = checkpoint(first, 4, "model")
    config = make_config(
        model__pretrained=str(first / "last"),
        head__type="cosface",
        training__freeze_backbone_epochs=1,
        training__epochs=2,
        checkpoint__keep_last_n=9,
    )
    second = train(config, tracker=RecordingTracker()).run_folder
    found = checkpoint(second, 4, "model")
    assert all(torch.equal(trained[name], found[name]) for name in trained)


def test_the_average_is_what_is_verified_and_saved_as_the_model(make_config: MakeConfig) -> None:
    from facerec.evaluation.suites import evaluate_suite, find_pair_sets, metric_values
    from facerec.models.build import build_backbone
    from facerec.models.state_load import load_backbone_weights

    config = make_config(training__epochs=1, training__ema_decay=0.9)
    tracker = RecordingTracker()
    run = train(config, tracker=tracker).run_folder
    assert not torch.equal(
        checkpoint(run, 4, "model")["conv1.weight"], checkpoint(run, 4, "trained_model")["conv1.weight"]
    )
    backbone = build_backbone(config.model, image_hw=config.image_hw)
    load_backbone_weights(backbone, run / "last")
    results = evaluate_suite(
        backbone, find_pair_sets(config), image_hw=config.image_hw, device=torch.device("cpu"), batch_size=256
    )
    assert tracker.curve("eval/people/auc")[1] == pytest.approx(metric_values(results)["eval/people/auc"])


@pytest.mark.parametrize(
    "changes",
    [
        {"training__ema_decay": 0.9, "training__accumulation_steps": 2},
        {"training__freeze_backbone_epochs": 2, "training__no_decay": ["vector"], "training__backbone_lr_factor": 0.5},
    ],
)
def test_resume_is_bit_identical_with_it_too(make_config: MakeConfig, tmp_path: Path, changes: dict) -> None:
    def final(run: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (run / "last").glob("*.safetensors")}

    whole = train(make_config(checkpoint__save_dir=str(tmp_path / "whole"), **changes), tracker=RecordingTracker())

    def stop(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted):
        train(make_config(**changes), tracker=RecordingTracker(on_metrics=stop))
    resumed = train(make_config(training__resume=True, **changes), tracker=RecordingTracker())
    assert final(resumed.run_folder) == final(whole.run_folder)
    assert final(resumed.run_folder)


def test_every_run_tells_the_time_outside_of_its_steps(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    train(make_config(training__epochs=1), tracker=tracker)
    assert list(tracker.curve("train/outside_step_fraction")) == [1, 2, 3, 4]
    assert all(0.0 <= value <= 1.0 for value in tracker.curve("train/outside_step_fraction").values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__batch_size": 1}, "leaves one picture for the batch normalisation"),
        ({"training__accumulation_steps": 3}, "3 does not divide data.batch_size"),
        ({"training__freeze_backbone_epochs": 3}, "leaves no epoch of 3"),
        ({"training__compile": "reduce-overhead", "training__accumulation_steps": 2}, "replays CUDA graphs"),
        ({"training__compile": "fastest"}, "'max-autotune-no-cudagraphs', not 'fastest'"),
        ({"training__compile": True, "training__data_parallel": True}, "cannot be compiled"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(make_config: MakeConfig, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(make_config(**changes), tracker=RecordingTracker())


def test_variables_of_a_launcher_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK=2 is not below WORLD_SIZE=2"), join_world("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="whole numbers"), join_world("cpu"):
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert World(size=4, rank=3, local_rank=1).device("auto") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="torch sees 2; start at most 2 processes"):
        World(size=4, rank=3, local_rank=3).device("auto")
    with pytest.raises(DeviceError, match="one GPU for 4 processes"):
        World(size=4, rank=3, local_rank=1).device("cuda:0")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_training_computes_what_the_plain_one_does(make_config: MakeConfig) -> None:
    # Two linear layers: the compiler of C++ takes its time.
    plain_backbone.register()

    def course(**changes: Any) -> list[float]:
        tracker = RecordingTracker()
        quick = {"training__epochs": 1, "eval__bin_file": None, "training__monitor": "train/loss"}
        model = {"model__backbone": plain_backbone.NAME, "model__dropout": None}
        train(make_config(**quick, **model, training__mode="min", **changes), tracker=tracker)
        return list(tracker.curve("train/loss").values())

    try:
        plain, compiled = course(), course(training__compile="default")
    finally:
        del BACKBONES._entries[plain_backbone.NAME]
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_what_the_compiler_cannot_do_is_one_sentence(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*_: object, **__: object) -> None:
        raise TorchDynamoException("no C++ compiler\nwas found")

    monkeypatch.setattr("facerec.training.step.TrainStep.__call__", fail)
    monkeypatch.setattr("facerec.training.acceleration.torch.compile", lambda module, **_: module)
    with pytest.raises(
        TrainingError, match=r"training\.compile: iresnet_mini cannot be compiled here \(no C\+\+ compiler"
    ):
        train(make_config(training__compile=True), tracker=RecordingTracker())
