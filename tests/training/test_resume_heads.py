"""Every head resumes to the bit with sampled classes, every other one without logits (promise C2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from facerec.config.schema import Config
from facerec.registry import HEADS
from facerec.training.loop import train
from tests.training.conftest import RecordingTracker
from tests.training.test_resume import final_bytes, interrupt_at, uninterrupted

MakeConfig = Callable[..., Config]


@pytest.mark.slow
@pytest.mark.parametrize(("head", "loss"), list(zip(HEADS.names(), cycle(["fused", "plain"]), strict=False)))
def test_resume_in_mid_epoch_is_bit_identical(make_config: MakeConfig, tmp_path: Path, head: str, loss: str) -> None:
    changes = {
        "head__type": head,
        "head__margin": None,
        "head__loss": loss,
        "head__sample_rate": 0.5,
        "data__batch_size": 4,
        "training__epochs": 1,
        "training__lr": 0.01,
    }
    expected, _ = uninterrupted(make_config, tmp_path, **changes)
    run = interrupt_at(make_config(**changes), 7)
    train(make_config(training__resume=True, **changes), tracker=RecordingTracker())
    assert final_bytes(run) == expected
