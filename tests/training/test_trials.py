"""``--dry-run`` and ``--overfit``: what a set-up costs and whether it can learn at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from facerec.config.schema import Config
from facerec.errors import ConfigError
from facerec.training.dry_run import describe_plan
from facerec.training.overfit import _without_regularisation, overfit

MakeConfig = Callable[..., Config]


def test_a_dry_run_tells_memory_time_and_evaluation_and_writes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    text = describe_plan(make_config(eval__eval_freq=2, eval__before_training=True))
    assert "64 images of 8 identities" in text
    assert "(16, 3, 32, 32), 4 steps per epoch, 3 epochs, 12 updates" in text
    # The centres of eight classes; the backbone is larger.
    assert "head      arcface: 0.3 k parameters" in text
    assert re.search(r"^backbone  iresnet_mini: \d+\.\d+ [Mk] parameters$", text, re.MULTILINE)
    assert re.search(r"^memory    \d+ MiB of the process at most$", text, re.MULTILINE)
    assert re.search(r"^step      \d+\.\d ms, \d+ images/s", text, re.MULTILINE)
    # The untrained network, after two epochs, and after the last.
    assert re.search(r"^time      .* for 3 evaluations of 80 images", text, re.MULTILINE)
    assert not (tmp_path / "runs").exists()


def test_a_sound_set_up_learns_a_batch_by_heart(make_config: MakeConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    verdict = overfit(make_config(training__lr=0.05), batches=1, tell=lines.append)
    assert verdict.has_learnt
    assert verdict.losses[-1] < 0.05 < verdict.losses[0]
    assert verdict.sentence.startswith("LEARNT  1 batch(es), 16 images: loss ")
    assert not (tmp_path / "runs").exists()


def test_the_dropout_that_a_backbone_has_by_default_is_off_too(make_config: MakeConfig) -> None:
    config = make_config(model__backbone="vit_t", model__dropout=None, model__drop_path=0.3)
    assert _without_regularisation(config).model.drop_path == 0.0
    assert _without_regularisation(config).model.mask_ratio == 0.0
    config = make_config(model__backbone="resnet50", model__dropout=None)
    assert _without_regularisation(config).model.dropout == 0.0


def test_a_set_up_that_cannot_learn_is_told_so(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facerec.training.overfit._MOST_PASSES", 12)
    lines: list[str] = []
    verdict = overfit(make_config(training__lr=1e-9), batches=1, tell=lines.append)
    assert not verdict.has_learnt
    assert "NOT LEARNT" in verdict.sentence
    assert "learning rate" in verdict.sentence
    assert lines == [f"pass 10: loss {verdict.losses[9]:.4f}"]


def test_a_loss_that_breaks_is_not_learnt(make_config: MakeConfig) -> None:
    verdict = overfit(make_config(training__lr=1e30), batches=1, tell=lambda line: None)
    assert not verdict.has_learnt
    assert "not finite" in verdict.sentence


def test_more_batches_than_an_epoch_has_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="an epoch has 4 batches"):
        overfit(make_config(), batches=5, tell=lambda line: None)
