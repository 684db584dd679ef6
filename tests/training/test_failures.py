"""The sentences on a loss that is not finite and on a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from facerec.config.schema import Config
from facerec.errors import CheckpointError, TrainingError
from facerec.training.distributed import World
from facerec.training.failures import not_finite
from facerec.training.loop import train
from facerec.training.summary import read_summary
from tests.training.conftest import RecordingTracker


def session(*, first_broken: int, known: list[tuple[int, list[int]]]) -> Any:
    step = SimpleNamespace(first_broken_step=first_broken, scaler=SimpleNamespace(is_enabled=lambda: False))
    loader = SimpleNamespace(name_of=str)
    return SimpleNamespace(step=step, recent_keys=known, global_step=90, epoch=0, loader=loader, world=World())


@pytest.mark.parametrize(("known", "records"), [([(12, [5, 6]), (13, [7])], "5, 6"), ([(80, [5])], "unknown")])
def test_the_first_broken_step_is_named_with_its_records(known: list[tuple[int, list[int]]], records: str) -> None:
    sentence = str(not_finite(session(first_broken=12, known=known), 0.1))
    assert f"not finite at step 12 (epoch 1, learning rate 0.1, records {records})" in sentence


@pytest.mark.parametrize(
    "error",
    [
        torch.distributed.DistBackendError("NCCL error"),
        RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"),
    ],
)
def test_a_process_that_is_left_alone_says_that_it_is_not_the_culprit(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("facerec.training.step.TrainStep.__call__", fail)
    with pytest.raises(TrainingError, match=r"another process of this training is gone.*its own message says why"):
        train(make_config(), tracker=RecordingTracker())


def test_an_error_that_nobody_knows_stays_what_it_is(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("facerec.training.step.TrainStep.__call__", fail)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        train(make_config(), tracker=RecordingTracker())


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("record.atomic_write_text", "the evaluation of epoch 1"),
        ("record.mark", "the evaluation of epoch 1"),
        ("verification.write_roc_picture", "the picture of epoch 1"),
    ],
)
def test_a_disk_that_is_full_after_the_checkpoint_is_a_sentence_and_the_run_can_go_on(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, call: str, what: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    # The first epoch is the best: no later one is better by so much.
    changes = {"training__epochs": 2, "training__lr": 1e-9, "training__min_delta": 0.6}
    config = make_config(**changes)
    with monkeypatch.context() as patch:
        patch.setattr(f"facerec.training.{call}", refuse)
        with pytest.raises(
            CheckpointError, match=rf"^{what} could not be written under .* \(No space left on device\)"
        ):
            train(config, tracker=RecordingTracker())
    (run,) = Path(config.checkpoint.save_dir).iterdir()
    assert (run / "last").resolve().name == "step-00000004"
    train(make_config(training__resume=True, **changes), tracker=RecordingTracker())
    assert read_summary(run)["last"]["epoch"] == 2
    assert (run / "best").resolve().name == "step-00000004"


def test_a_disk_that_is_full_at_the_end_is_a_sentence(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from facerec.training import record

    original = record.atomic_write_text

    def refuse(path: Path, content: str) -> None:
        if path.name == "summary.json":
            raise OSError(28, "No space left on device")
        original(path, content)

    monkeypatch.setattr(record, "atomic_write_text", refuse)
    with pytest.raises(CheckpointError, match=r"the summary could not be written under .*make room"):
        train(make_config(training__epochs=1), tracker=RecordingTracker())
