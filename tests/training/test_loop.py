"""A training from the first step to the summary, and what stops it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from facerec.config.load import load_config
from facerec.config.schema import Config
from facerec.errors import CheckpointError, ConfigError, DeviceError, MissingPathError, TrainingError
from facerec.fsio import check_manifest
from facerec.training import checkpoint as checkpoint_module
from facerec.training.checkpoint import list_checkpoints
from facerec.training.dry_run import describe_plan
from facerec.training.history import Evaluation
from facerec.training.interrupt import TrainingInterrupted
from facerec.training.loop import train
from facerec.training.session import Session
from facerec.training.summary import describe_summary, find_run, read_summary
from tests.training.conftest import RecordingTracker

MakeConfig = Callable[..., Config]


def test_a_training_learns_and_leaves_a_complete_record(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    config = make_config(training__epochs=4, eval__before_training=True)
    result = train(config, tracker=tracker)
    losses = tracker.curve("train/epoch_loss")
    assert list(losses) == [1, 2, 3, 4]
    assert losses[4] < 0.7 * losses[1]
    assert list(tracker.curve("train/loss")) == list(range(1, 17))
    assert list(tracker.curve("eval/people/accuracy")) == [0, 1, 2, 3, 4]
    assert tracker.status == "FINISHED"
    assert result.untrained is not None
    assert result.last is not None
    assert result.last.epoch == 4
    assert load_config(result.run_folder / "config.yaml") == config
    history = json.loads((result.run_folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3, 4]
    assert ("summary.json", "") in tracker.files
    assert {folder for _, folder in tracker.files} == {"", "pictures", "checkpoints/best", "checkpoints/last"}
    assert (result.run_folder / "pictures" / "roc_epoch_004.png").stat().st_size > 5000
    log = (Path(config.logging.log_dir) / result.run_folder.name / "train.log").read_text()
    assert "64 images of 8 identities, 4 steps of 16 images per epoch" in log


def test_the_run_is_described_with_params_tags_and_data(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    train(make_config(training__epochs=1, logging__tags={"team": "a"}), tracker=tracker)
    run = tracker.run
    assert run is not None
    assert run.name == "iresnet_mini-arcface-train"
    assert run.params["training.lr"] == 0.05
    assert run.params["head.num_classes"] == 8
    assert run.params["env.torch"] == torch.__version__.split("+")[0]
    assert run.tags["team"] == "a"
    assert run.tags["facerec.head"] == "arcface"
    assert [(data.name, data.context) for data in run.datasets] == [("train", "train"), ("people", "eval")]
    assert len(run.params["eval.sha256.people"]) == 64


def test_checkpoints_are_kept_as_configured_and_all_are_complete(make_config: MakeConfig) -> None:
    config = make_config(training__epochs=6, checkpoint__keep_last_n=2, checkpoint__every_steps=3)
    result = train(config, tracker=RecordingTracker())
    kept = list_checkpoints(result.run_folder)
    best, last = (result.run_folder / "best").resolve(), (result.run_folder / "last").resolve()
    assert last.name == "step-00000024"
    assert result.best is not None
    assert best.name == f"step-{result.best.step:08d}"
    assert set(kept) == {best, *sorted(kept)[-2:]}
    for folder in kept:
        check_manifest(folder)
    assert not list(result.run_folder.glob(".partial*"))


def test_early_stop_ends_the_training_after_patience(make_config: MakeConfig) -> None:
    # A learning rate of next to nothing improves nothing by more than min_delta.
    config = make_config(
        training__epochs=9, training__lr=1e-9, training__early_stop=True, training__patience=2, training__min_delta=0.6
    )
    result = train(config, tracker=RecordingTracker())
    assert result.last is not None
    assert result.last.epoch == 3


@pytest.mark.parametrize("monitor", [{}, {"training__mode": "max"}, {"training__monitor": "train/loss"}])
def test_without_pairs_the_smallest_loss_is_the_best(make_config: MakeConfig, monitor: dict) -> None:
    config = make_config(eval__bin_file=None, **monitor)
    result = train(config, tracker=RecordingTracker())
    assert result.best is not None
    assert result.best.epoch == 3
    assert result.monitor == "train/epoch_loss"
    assert "train loss   " in describe_summary(read_summary(result.run_folder))


@pytest.mark.parametrize(("metric", "best"), [("eer", 2), ("accuracy", 3), ("accuracy_std", 2)])
def test_the_best_epoch_has_the_smallest_eer_or_the_largest_accuracy(
    make_config: MakeConfig, metric: str, best: int
) -> None:
    key = f"eval/people/{metric}"
    course = [0.3, 0.1, 0.4, 0.2]
    session: Any = SimpleNamespace(
        config=make_config(training__monitor=metric),
        monitor=key,
        evaluations=[
            Evaluation(epoch=number, step=number, metrics={key: value}) for number, value in enumerate(course, 1)
        ],
    )
    assert Session.judgement.fget(session).best.epoch == best


def test_what_is_said_before_the_run_has_a_folder_is_in_its_log(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(training__epochs=1, training__sync_bn=True, training__data_parallel=True)
    result = train(config, tracker=RecordingTracker())
    log = (Path(config.logging.log_dir) / result.run_folder.name / "train.log").read_text()
    told = capsys.readouterr().err
    for sentence in ("training.sync_bn has nothing to join: one process trains", "training.data_parallel has nothing"):
        assert log.count(sentence) == told.count(sentence) == 1


def test_the_summary_has_the_share_of_the_time_outside_of_the_steps(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    result = train(make_config(training__epochs=2), tracker=tracker)
    shares = sorted(tracker.curve("train/outside_step_fraction").values())
    assert len(shares) == 8
    found = read_summary(result.run_folder)["outside_step_fraction"]
    assert shares[3] <= found <= shares[4]


def test_evaluations_come_every_eval_freq_epochs_and_at_the_end(make_config: MakeConfig) -> None:
    tracker = RecordingTracker()
    train(make_config(training__epochs=5, eval__eval_freq=2), tracker=tracker)
    assert list(tracker.curve("eval/people/accuracy")) == [2, 4, 5]


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_loss_that_is_not_finite_stops_before_the_update(make_config: MakeConfig, clip: float) -> None:
    tracker = RecordingTracker()
    config = make_config(training__lr=1e30, training__momentum=0.0, training__grad_clip_norm=clip)
    with pytest.raises(TrainingError, match=r"not finite at step \d+ \(epoch 1, learning rate \S+, records \d+"):
        train(config, tracker=tracker)
    assert tracker.status == "FAILED"
    assert "not finite" in tracker.reason
    (run,) = Path(config.checkpoint.save_dir).iterdir()
    for folder in list_checkpoints(run):
        for tensor in load_file(folder / "model.safetensors").values():
            assert torch.isfinite(tensor).all()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_config: MakeConfig) -> None:
    def final(seed: int) -> bytes:
        result = train(make_config(seed=seed, training__epochs=1), tracker=RecordingTracker())
        return (result.run_folder / "last" / "model.safetensors").read_bytes()

    assert final(1) == final(1)
    assert final(1) != final(2)


def test_a_full_disk_leaves_the_earlier_checkpoints_good(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    original = checkpoint_module.save_file
    calls = []

    def fail_later(tensors: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 8:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        original(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", fail_later)
    tracker = RecordingTracker()
    with pytest.raises(CheckpointError, match=r"No space left on device.*earlier checkpoints are intact"):
        train(config, tracker=tracker)
    assert tracker.status == "FAILED"
    (run,) = Path(config.checkpoint.save_dir).iterdir()
    assert [path.name for path in list_checkpoints(run)] == ["step-00000000", "step-00000004"]
    check_manifest(run / "last")
    assert not list(run.glob(".partial*"))


def test_mistakes_are_found_before_anything_is_written(make_config: MakeConfig, tmp_path: Path) -> None:
    for changes, error in (
        ({"data__root": str(tmp_path / "nowhere")}, MissingPathError),
        ({"eval__bin_file": "absent.bin"}, MissingPathError),
        ({"head__num_classes": 9}, ConfigError),
        ({"data__batch_size": 999}, ConfigError),
        ({"training__monitor": "acuracy"}, ConfigError),
        ({"training__resume": True}, MissingPathError),
    ):
        with pytest.raises(error):
            train(make_config(**changes), tracker=RecordingTracker())
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="device cuda is not there"):
            train(make_config(device="cuda"), tracker=RecordingTracker())
    assert not (tmp_path / "runs").exists()


def test_a_signal_saves_and_marks_the_run_killed(make_config: MakeConfig) -> None:
    import os
    import signal

    tracker = RecordingTracker(on_metrics=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 6 else None)
    config = make_config()
    with pytest.raises(TrainingInterrupted, match=r"stopped by SIGTERM after step 6.*--resume") as caught:
        train(config, tracker=tracker)
    assert caught.value.exit_code == 143
    assert tracker.status == "KILLED"
    (run,) = Path(config.checkpoint.save_dir).iterdir()
    assert check_manifest(run / "last")["step"] == 6


def test_the_summary_tells_accuracy_pictures_and_how_to_compare(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(training__epochs=1, eval__before_training=True)
    result = train(config, tracker=RecordingTracker())
    text = describe_summary(read_summary(result.run_folder))
    assert "people       10-fold accuracy 0." in text
    assert "; untrained 0." in text
    assert "roc_epoch_001.png" in text
    assert "mlflow ui" in text
    path = tmp_path / "c.yaml"
    path.write_text(f"checkpoint: {{save_dir: {config.checkpoint.save_dir}}}")
    assert find_run(None, config_path=str(path)) == result.run_folder


def test_a_dry_run_opens_everything_and_writes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    text = describe_plan(make_config())
    assert "head.loss" not in text
    assert "64 images of 8 identities" in text
    assert "(16, 3, 32, 32), 4 steps per epoch, 3 epochs, 12 updates" in text
    assert "people: 40 pairs, 20 genuine" in text
    assert "best by eval/people/accuracy" in text
    with pytest.raises(ConfigError, match="no evaluation logs 'acuracy'"):
        describe_plan(make_config(training__monitor="acuracy"))
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_names_what_spares_the_memory_of_the_logits(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a chunk of the fused loss were smaller than the logits of eight classes.
    monkeypatch.setattr("facerec.training.memory.DEFAULT_CHUNK_MIB", 0.0001)
    text = describe_plan(make_config())
    assert "less with head.loss: fused (without the 0.0 GiB of logits, the same training)" in text
    assert "less with head.sample_rate: 0.1" in text


def test_mixed_precision_trains_too(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facerec.models.device.cpu_has_bfloat16", lambda: True)
    tracker = RecordingTracker()
    train(make_config(training__amp=True), tracker=tracker)
    assert tracker.run is not None
    assert tracker.run.params["run.precision"] == "bfloat16"
    losses = list(tracker.curve("train/epoch_loss").values())
    assert losses[-1] < losses[0]
    assert all(math.isfinite(loss) for loss in losses)
