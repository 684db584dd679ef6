"""From a configuration to the model, its loss and the step that updates it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn

from facerec.config.schema import Config
from facerec.errors import ConfigError
from facerec.models.backbones.base import Backbone
from facerec.models.build import FaceModel, build_model
from facerec.models.device import Precision, choose_precision
from facerec.process import keep_freed_memory
from facerec.rng import seed_everything
from facerec.training.acceleration import accelerate_backbone, allow_tf32
from facerec.training.distributed import World
from facerec.training.ema import MovingAverage
from facerec.training.environment import make_deterministic
from facerec.training.head_parts import HeadLoss, build_loss, split_weights
from facerec.training.optim import build_optimizer, parameter_groups
from facerec.training.step import TrainStep

__all__ = ["Parts", "assemble"]

LOGGER = logging.getLogger("facerec")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What computes in a training."""

    model: FaceModel
    loss: HeadLoss
    step: TrainStep
    average: MovingAverage | None
    precision: Precision
    device: torch.device

    @property
    def verified_backbone(self) -> nn.Module:
        """The backbone that is verified and saved as the model."""
        return self.model.backbone if self.average is None else self.average.module

    def named_weights(self) -> list[tuple[str, nn.Parameter]]:
        """All weights, by the names of the model."""
        return list(self.model.named_parameters())


def assemble(config: Config, *, num_classes: int, device: torch.device, world: World) -> Parts:
    """Build everything that computes, with weights and random generators as the seed says.

    Raises:
        FacerecError: settings do not go together, or ``model.pretrained`` cannot be loaded.
    """
    training = config.training
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Triton's kernels and events go to the current GPU, whatever their tensors say.
    make_deterministic(enabled=config.deterministic)
    allow_tf32(enabled=training.tf32)
    if device.type == "cpu":
        keep_freed_memory()
    # Each process draws its own dropout; that of the first is the draw of a training in one process.
    seed_everything(config.seed + world.rank)
    model = build_model(config, num_classes=num_classes)
    model = model.to(device).to(memory_format=torch.channels_last)
    if training.sync_bn:
        model.backbone = _with_joint_statistics(model.backbone, device=device, world=world)
    _check_batch(config, model)
    loss = build_loss(model.head, config, world=world)
    average = None if training.ema_decay is None else MovingAverage(model.backbone, decay=training.ema_decay)
    precision = choose_precision(device, amp=training.amp)
    groups = parameter_groups([("backbone", model.backbone), ("head", loss)], training)
    clipped = model.backbone if training.grad_clip_part == "backbone" else nn.ModuleList([model.backbone, loss])
    step = TrainStep(
        accelerate_backbone(model.backbone, training, device=device, world=world),
        loss,
        build_optimizer(groups, training, device=device),
        precision=precision,
        grad_clip_norm=training.grad_clip_norm,
        clipped_weights=list(clipped.parameters()),
        device=device,
        init_scale=training.amp_init_scale,
        accumulation_steps=training.accumulation_steps,
        frozen_backbone=model.backbone,
        local_weights=split_weights(loss),
        average=average,
        world=world,
    )
    return Parts(model=model, loss=loss, step=step, average=average, precision=precision, device=device)


def _with_joint_statistics(backbone: Backbone, *, device: torch.device, world: World) -> Backbone:
    if world.size == 1:
        LOGGER.info("training.sync_bn has nothing to join: one process trains")
        return backbone
    if device.type != "cuda":
        raise ConfigError("training.sync_bn: torch has it on CUDA alone; remove the key, or train on GPUs")
    joined: Backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    return joined


def _check_batch(config: Config, model: FaceModel) -> None:
    pictures = config.data.batch_size // config.training.accumulation_steps
    if pictures > 1:
        return
    for name, module in model.backbone.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"data.batch_size: {config.data.batch_size} in {config.training.accumulation_steps} part(s) leaves one "
                f"picture for the batch normalisation '{name}', which has no deviation then; use two or more per part"
            )
