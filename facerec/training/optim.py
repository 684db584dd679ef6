"""The optimiser, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from facerec.config.schema import TrainingConfig

__all__ = ["build_optimizer", "learning_rate", "set_learning_rate"]


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainingConfig, *, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that the configuration names; fused on CUDA, where one kernel updates all weights."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    fused = device.type == "cuda"
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            trainable,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(trainable, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def learning_rate(config: TrainingConfig, *, step: int, steps_per_epoch: int) -> float:
    """The learning rate of the update number ``step`` (from 0).

    Linear warm-up to ``lr`` at the last step of the warm-up, then the schedule. As it has no state, a resumed training
    cannot disagree with an uninterrupted one.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.scheduler == "constant":
        return config.lr
    if config.scheduler == "multistep":
        passed = sum(step >= milestone * steps_per_epoch for milestone in config.milestones)
        return float(config.lr * config.gamma**passed)
    total = config.epochs * steps_per_epoch
    progress = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    remaining = 1.0 - progress if config.scheduler == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.min_lr + (config.lr - config.min_lr) * remaining


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
