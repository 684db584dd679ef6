"""A resumed training ends with the very bits of an uninterrupted one (promise C2), or says why it cannot (C3, C6)."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facerec.config.schema import Config
from facerec.errors import CheckpointError
from facerec.training import step as step_module
from facerec.training.checkpoint import list_checkpoints, read_state
from facerec.training.interrupt import TrainingInterrupted
from facerec.training.loop import train
from tests.training.conftest import RecordingTracker

MakeConfig = Callable[..., Config]

TENSORS = ("model.safetensors", "head.safetensors", "optimizer.safetensors")


def final_bytes(run: Path) -> dict[str, bytes]:
    return {name: (run / "last" / name).read_bytes() for name in TENSORS}


def interrupt_at(config: Config, step: int) -> Path:
    """Train until SIGTERM comes after ``step`` updates; returns the run folder."""
    tracker = RecordingTracker(on_metrics=lambda now: os.kill(os.getpid(), signal.SIGTERM) if now == step else None)
    with pytest.raises(TrainingInterrupted):
        train(config, tracker=tracker)
    (run,) = Path(config.checkpoint.save_dir).iterdir()
    return run


def uninterrupted(make_config: MakeConfig, tmp_path: Path, **changes: object) -> tuple[dict[str, bytes], list[dict]]:
    config = make_config(checkpoint__save_dir=str(tmp_path / "whole"), **changes)
    result = train(config, tracker=RecordingTracker())
    return final_bytes(result.run_folder), (result.run_folder / "history.json").read_text()


@pytest.mark.parametrize("head", ["arcface", "cosface", "adaface"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_resume_in_mid_epoch_is_bit_identical(
    make_config: MakeConfig, tmp_path: Path, head: str, optimizer: str
) -> None:
    changes = {"head__type": head, "training__optimizer": optimizer, "training__lr": 0.01}
    expected, history = uninterrupted(make_config, tmp_path, **changes)
    config = make_config(**changes)
    run = interrupt_at(config, 6)
    assert (run / "last").resolve().name == "step-00000006"
    train(make_config(training__resume=True, **changes), tracker=RecordingTracker())
    assert final_bytes(run) == expected
    assert (run / "history.json").read_text() == history


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (3, 1)])
def test_resume_with_another_number_of_workers_is_bit_identical(
    make_config: MakeConfig, tmp_path: Path, before: int, after: int
) -> None:
    augment = {"data__augment__color_jitter__p": 0.5, "data__augment__shift__p": 0.5}
    expected, _ = uninterrupted(make_config, tmp_path, **augment)
    run = interrupt_at(make_config(data__num_workers=before, **augment), 5)
    train(make_config(training__resume=True, data__num_workers=after, **augment), tracker=RecordingTracker())
    assert final_bytes(run) == expected


@pytest.mark.parametrize("step", [1, 4, 8, 11])
def test_resume_at_any_step_is_bit_identical(make_config: MakeConfig, tmp_path: Path, step: int) -> None:
    expected, history = uninterrupted(make_config, tmp_path)
    run = interrupt_at(make_config(), step)
    tracker = RecordingTracker()
    train(make_config(training__resume=str(run)), tracker=tracker)
    assert final_bytes(run) == expected
    assert (run / "history.json").read_text() == history
    assert tracker.run is not None
    assert tracker.run.resume_run_id == "run-1"


def test_without_the_state_of_the_generators_the_weights_differ(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = uninterrupted(make_config, tmp_path)
    run = interrupt_at(make_config(), 6)
    monkeypatch.setattr("facerec.training.saving.restore_rng", lambda state: None)
    train(make_config(training__resume=True), tracker=RecordingTracker())
    assert final_bytes(run) != expected


def test_without_the_momentum_the_weights_differ(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = uninterrupted(make_config, tmp_path)
    run = interrupt_at(make_config(), 6)
    monkeypatch.setattr("facerec.training.saving.load_optimizer", lambda *_, **__: None)
    train(make_config(training__resume=True), tracker=RecordingTracker())
    assert final_bytes(run) != expected


def test_a_checkpoint_without_a_loss_scaler_goes_on_with_one(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupt_at(make_config(), 2)
    original = step_module.build_scaler

    def build(device: torch.device, *, init_scale: float, enabled: bool, several: bool) -> torch.amp.GradScaler:
        return original(device, init_scale=init_scale, enabled=True, several=several)

    # As on a device that trains in float16.
    monkeypatch.setattr(step_module, "build_scaler", build)
    result = train(make_config(training__resume=True), tracker=RecordingTracker())
    assert result.last is not None
    assert result.last.epoch == 3
    assert "made without a loss scaler; its scale starts at 128 for float16" in caplog.text
    assert read_state(run / "last").scaler["scale"] == 128.0


def test_an_evaluation_that_was_cut_off_is_made_up_for(make_config: MakeConfig, tmp_path: Path) -> None:
    _, history = uninterrupted(make_config, tmp_path)
    run = interrupt_at(make_config(), 8)
    assert '"epoch": 2' not in (run / "history.json").read_text()
    train(make_config(training__resume=True), tracker=RecordingTracker())
    assert (run / "history.json").read_text() == history


def test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(make_config(checkpoint__keep_last_n=9), tracker=RecordingTracker()).run_folder
    before = final_bytes(run)
    # Elsewhere than from the end: the same steps again, at another rate.
    again = make_config(training__resume=str(run / "step-00000004"), training__lr=0.01, checkpoint__keep_last_n=9)
    result = train(again, tracker=RecordingTracker())
    assert (run / "last").resolve().name == "step-00000012"
    assert final_bytes(run)["model.safetensors"] != before["model.safetensors"]
    aside = run / "replaced-step-00000012" / "model.safetensors"
    assert aside.read_bytes() == before["model.safetensors"]
    assert "set aside as replaced-step-00000008, replaced-step-00000012" in caplog.text
    assert result.best is not None
    assert (run / "best").resolve().name == f"step-{result.best.step:08d}"


def test_a_finished_run_has_nothing_left_to_do(make_config: MakeConfig) -> None:
    result = train(make_config(), tracker=RecordingTracker())
    before = final_bytes(result.run_folder)
    tracker = RecordingTracker()
    train(make_config(training__resume=True), tracker=tracker)
    assert final_bytes(result.run_folder) == before
    assert tracker.curve("train/loss") == {}


def test_other_settings_are_refused_by_name(make_config: MakeConfig) -> None:
    run = interrupt_at(make_config(), 2)
    with pytest.raises(CheckpointError) as caught:
        train(
            make_config(training__resume=True, head__margin=0.4, data__batch_size=8, training__optimizer="adam"),
            tracker=RecordingTracker(),
        )
    message = str(caught.value)
    assert "data.batch_size: 16 -> 8; head.margin: 0.2 -> 0.4; training.optimizer: 'sgd' -> 'adam'" in message
    assert "start a new run without --resume" in message
    assert [path.name for path in list_checkpoints(run)] == ["step-00000000", "step-00000002"]


def test_other_data_is_refused(make_config: MakeConfig, pack_folder: Path, tmp_path: Path) -> None:
    from tests.packs import write_pack

    interrupt_at(make_config(), 2)
    other = write_pack(tmp_path / "other", identities=8, pictures=9)
    shutil.copy(pack_folder / "people.bin", other)
    with pytest.raises(CheckpointError, match="training data"):
        train(make_config(training__resume=True, data__root=str(other)), tracker=RecordingTracker())


def test_a_longer_training_may_go_on_and_is_told(make_config: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    interrupt_at(make_config(), 2)
    result = train(make_config(training__resume=True, training__epochs=4), tracker=RecordingTracker())
    assert result.last is not None
    assert result.last.epoch == 4
    assert "resuming with another training.epochs: 3 -> 4" in caplog.text


def test_another_architecture_is_refused(make_config: MakeConfig) -> None:
    interrupt_at(make_config(), 2)
    with pytest.raises(CheckpointError, match=r"model\.backbone: 'iresnet_mini' -> 'iresnet18'"):
        train(make_config(training__resume=True, model__backbone="iresnet18"), tracker=RecordingTracker())


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_nothing_starts_afresh(make_config: MakeConfig, name: str) -> None:
    run = interrupt_at(make_config(), 6)
    path = run / "last" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"step-00000006.*{name}|{name}.*step-00000006|step-00000006"):
        train(make_config(training__resume=True), tracker=RecordingTracker())
    assert len(list(run.parent.iterdir())) == 1
    train(make_config(training__resume=str(run / "step-00000004")), tracker=RecordingTracker())


def test_a_missing_file_of_a_checkpoint_is_named(make_config: MakeConfig) -> None:
    run = interrupt_at(make_config(), 6)
    (run / "last" / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head\.safetensors is missing"):
        train(make_config(training__resume=True), tracker=RecordingTracker())
