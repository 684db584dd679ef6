"""A few batches learnt by heart: the first check of a new set-up, before hours go into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facerec.config.schema import BACKBONE_OPTIONS, AugmentConfig, Config, FlipConfig
from facerec.data.loader import build_train_loader
from facerec.errors import ConfigError
from facerec.models.device import resolve_device
from facerec.registry import BACKBONES
from facerec.training.assembly import Parts, assemble
from facerec.training.distributed import World
from facerec.training.failures import explained_failures
from facerec.training.optim import rate_scale, set_learning_rate

__all__ = ["Verdict", "overfit"]

_MOST_PASSES = 300
_NEAR_ZERO = 0.05
_TOLD_EVERY = 10
_Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the batches were learnt."""

    has_learnt: bool
    sentence: str
    losses: list[float]
    """Mean loss of each pass over the batches."""


def overfit(config: Config, *, batches: int, tell: Callable[[str], None]) -> Verdict:
    """Train on the first ``batches`` batches, the same pictures again and again, until the loss is near zero.

    Without augmentation, weight decay, dropout and stochastic depth, those that a backbone has by default included,
    which keep a network from it, and without schedule: the learning rate is ``training.lr``, after a warm-up over ten
    passes. The loss is near zero below 0.05. Nothing is written.

    Raises:
        ConfigError: an epoch has fewer batches.
        FacerecError: whatever would stop the training before its first step.
    """
    config = _without_regularisation(config)
    device = resolve_device(config.device)
    with build_train_loader(config, device=device) as loader:
        if batches > loader.steps_per_epoch:
            raise ConfigError(f"--overfit {batches}: an epoch has {loader.steps_per_epoch} batches; take fewer")
        parts = assemble(config, num_classes=loader.num_classes, device=device, world=World())
        source = loader.epoch(0)
        chosen = [next(source) for _ in range(batches)]
    kept = [(batch.images_BCHW, batch.labels_B) for batch in chosen]
    with explained_failures(config, parts):
        return _learn(config, parts, kept, tell)


def _learn(config: Config, parts: Parts, kept: _Batches, tell: Callable[[str], None]) -> Verdict:
    rate = config.training.lr * rate_scale(config.training, total_batch=config.data.batch_size)
    losses: list[float] = []
    parts.model.train()
    for number in range(_MOST_PASSES):
        set_learning_rate(parts.step.optimizer, rate * min(1.0, (number + 1) / 10))
        losses.append(_pass(parts, kept, first_step=number * len(kept)))
        if parts.step.is_broken():
            return _verdict(losses, kept, f"the loss is not finite in pass {len(losses)}; lower training.lr")
        if (number + 1) % _TOLD_EVERY == 0:
            tell(f"pass {number + 1}: loss {losses[-1]:.4f}")
        if losses[-1] < _NEAR_ZERO:
            return _verdict(losses, kept, "")
    return _verdict(
        losses,
        kept,
        "usual causes: a learning rate that is far too high or too low, labels that do not belong to the pictures, or "
        "the same picture under two identities",
    )


def _pass(parts: Parts, kept: _Batches, *, first_step: int) -> float:
    outputs = [parts.step(images, labels, step=first_step + index) for index, (images, labels) in enumerate(kept)]
    return float(torch.stack([output.loss.detach() for output in outputs]).mean())


def _verdict(losses: list[float], kept: _Batches, problem: str) -> Verdict:
    images = sum(len(labels) for _, labels in kept)
    course = f"{len(kept)} batch(es), {images} images: loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses)} passes"
    if problem:
        return Verdict(has_learnt=False, sentence=f"NOT LEARNT  {course}; {problem}", losses=losses)
    return Verdict(has_learnt=True, sentence=f"LEARNT  {course}", losses=losses)


def _without_regularisation(config: Config) -> Config:
    training = dataclasses.replace(
        config.training, weight_decay=0.0, freeze_backbone_epochs=0, ema_decay=None, resume=False
    )
    # Those that the backbone has of its own, too.
    options = BACKBONES.entry(config.model.backbone).options
    without: dict[str, Any] = dict.fromkeys((name for name in BACKBONE_OPTIONS if name in options), 0.0)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **without),
        data=dataclasses.replace(config.data, augment=AugmentConfig(flip=FlipConfig(p=0.0))),
        training=training,
    )
