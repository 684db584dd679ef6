"""The optimiser with its groups of weights, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from facerec.config.schema import TrainingConfig

__all__ = ["build_optimizer", "learning_rate", "parameter_groups", "rate_scale", "set_learning_rate"]

_FACTOR = "lr_factor"


def parameter_groups(parts: Iterable[tuple[str, nn.Module]], config: TrainingConfig) -> list[dict[str, Any]]:
    """The trainable weights of ``backbone`` and ``head`` in groups of one rate and one decay each; none is empty.

    Without ``no_decay`` and ``backbone_lr_factor`` there is one group, so that one fused kernel updates all weights.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part, module in parts:
        factor = config.backbone_lr_factor if part == "backbone" else 1.0
        for owner, name, weight in _owned_weights(module):
            decays = not any(_is_of_kind(kind, owner, name, weight) for kind in config.no_decay)
            groups.setdefault((factor, config.weight_decay if decays else 0.0), []).append(weight)
    return [{"params": weights, "weight_decay": decay, _FACTOR: factor} for (factor, decay), weights in groups.items()]


def build_optimizer(
    groups: list[dict[str, Any]], config: TrainingConfig, *, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that the configuration names; fused, so that every weight is read and written once."""
    fused = device.type in ("cuda", "cpu")
    if config.optimizer == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
        _begin_momentum(sgd)
        return sgd
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=fused)


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
    if config.scheduler == "cosine":
        remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
    elif config.scheduler == "polynomial":
        remaining = (1.0 - progress) ** config.power
    else:
        remaining = 1.0 - progress
    return float(config.min_lr + (config.lr - config.min_lr) * remaining)


def rate_scale(config: TrainingConfig, *, total_batch: int) -> float:
    """The factor on all learning rates for a batch of ``total_batch`` pictures, those of all processes.

    Source: the linear scaling rule, Goyal et al. 2017, arXiv:1706.02677.
    """
    return 1.0 if config.lr_reference_batch is None else total_batch / config.lr_reference_batch


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group, each with its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(_FACTOR, 1.0)


def _owned_weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for owner in module.modules():
        for name, weight in owner.named_parameters(recurse=False):
            if weight.requires_grad and weight not in seen:
                seen.add(weight)
                yield owner, name, weight


def _is_of_kind(kind: str, owner: nn.Module, name: str, weight: nn.Parameter) -> bool:
    if kind == "norm":
        return "Norm" in type(owner).__name__
    return name.endswith("bias") if kind == "bias" else weight.dim() <= 1


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    # torch makes the buffers in the first update. The fused kernel leaves them unwritten where that update is left out
    # (an overflow of float16), and the next one would read them. From zero the first update is the same.
    for group in optimizer.param_groups:
        if group["momentum"] > 0:
            for weight in group["params"]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
