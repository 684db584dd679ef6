"""A run goes on though its average of the weights, its history or its links have changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facerec.config.schema import Config
from facerec.errors import CheckpointError, TrainingError
from facerec.training.checkpoint import list_checkpoints
from facerec.training.loop import train
from facerec.training.run_folder import lock_run
from tests.training.conftest import RecordingTracker
from tests.training.test_resume import final_bytes, interrupt_at, uninterrupted

MakeConfig = Callable[..., Config]


def weights(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / f"{name}.safetensors")


def test_an_average_that_is_new_starts_from_the_weights_of_the_step(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupt_at(make_config(), 2)
    start = weights(run / "last", "model")["conv1.weight"]
    # An average that follows nothing, so that it is what it started from.
    monkeypatch.setattr("facerec.training.ema.torch._foreach_lerp_", lambda averages, sources, share: None)
    train(make_config(training__resume=True, training__ema_decay=0.9), tracker=RecordingTracker())
    assert "holds no average of the weights; it starts from the weights of this step" in caplog.text
    assert torch.equal(weights(run / "last", "model")["conv1.weight"], start)
    assert not torch.equal(weights(run / "last", "trained_model")["conv1.weight"], start)


def test_without_the_average_the_run_goes_on_with_the_weights_themselves(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    # The last update is at hand in both: the average follows from it, and is left out.
    run = interrupt_at(make_config(training__ema_decay=0.9), 12)
    trained = weights(run / "last", "trained_model")
    train(make_config(training__resume=True, training__epochs=4, training__lr=1e-12), tracker=RecordingTracker())
    assert "resuming with another training.ema_decay: 0.9 -> None" in caplog.text
    assert not (run / "last" / "trained_model.safetensors").exists()
    found = weights(run / "last", "model")
    torch.testing.assert_close(found["conv1.weight"], trained["conv1.weight"], rtol=0, atol=1e-6)


def test_a_history_that_is_gone_is_that_of_the_checkpoint(make_config: MakeConfig, tmp_path: Path) -> None:
    expected, history = uninterrupted(make_config, tmp_path)
    run = interrupt_at(make_config(), 9)
    (run / "history.json").unlink()
    train(make_config(training__resume=True), tracker=RecordingTracker())
    assert final_bytes(run) == expected
    epochs = [entry["epoch"] for entry in json.loads((run / "history.json").read_text())]
    assert epochs == [entry["epoch"] for entry in json.loads(history)]


@pytest.mark.parametrize("content", ["[{", '[{"epoch": 1}]', '{"epoch": 1}', "7"])
def test_a_history_that_is_damaged_is_named(make_config: MakeConfig, content: str) -> None:
    run = interrupt_at(make_config(), 6)
    (run / "history.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"history\.json is damaged; remove it to go on"):
        train(make_config(training__resume=True), tracker=RecordingTracker())
    assert [path.name for path in list_checkpoints(run)][-1] == "step-00000006"


def test_a_best_checkpoint_that_is_set_aside_leaves_no_link_to_nothing(make_config: MakeConfig) -> None:
    # Watched by the loss, every epoch is better than the one before.
    settings = {"checkpoint__keep_last_n": 9, "eval__bin_file": None}
    run = train(make_config(**settings), tracker=RecordingTracker()).run_folder
    assert (run / "best").resolve().name == "step-00000012"
    config = make_config(training__resume=str(run / "step-00000000"), **settings)

    def stop(step: int) -> None:
        raise OSError("as if killed in the first step")

    with pytest.raises(OSError, match="as if killed"):
        train(config, tracker=RecordingTracker(on_metrics=stop))
    assert not (run / "best").is_symlink()
    assert (run / "last").resolve().name == "step-00000000"


def test_a_run_that_another_process_trains_is_left_alone(make_config: MakeConfig) -> None:
    run = interrupt_at(make_config(), 2)
    before = (run / "config.yaml").read_bytes()
    tracker = RecordingTracker()
    with lock_run(run), pytest.raises(TrainingError, match="another process is training in"):
        train(make_config(training__resume=True, training__epochs=9), tracker=tracker)
    assert tracker.run is None
    assert (run / "config.yaml").read_bytes() == before
