"""What makes a step faster without changing what it computes: compiling, TF32, several GPUs."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facerec.config.schema import TrainingConfig
from facerec.errors import ConfigError
from facerec.training.distributed import World

__all__ = ["accelerate_backbone", "allow_tf32"]

LOGGER = logging.getLogger("facerec")

_WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


def accelerate_backbone(
    backbone: nn.Module, config: TrainingConfig, *, device: torch.device, world: World
) -> nn.Module:
    """The backbone as the step calls it; its weights stay those of ``backbone``.

    Raises:
        ConfigError: a setting does not go together with several processes.
    """
    called = _share_gradients(backbone, device=device, world=world)
    if config.data_parallel:
        if world.size > 1:
            raise ConfigError("training.data_parallel: several processes have taken its place; remove the key")
        if device.type == "cuda" and torch.cuda.device_count() > 1:
            return nn.DataParallel(backbone)
        LOGGER.info("training.data_parallel has nothing to spread over: one device is in use")
        return backbone
    if config.compile is False:
        return called
    mode = "default" if config.compile is True else config.compile
    if world.size > 1 and mode in _WITH_CUDA_GRAPHS:
        raise ConfigError(
            f"training.compile: '{mode}' replays CUDA graphs, which do not exchange gradients between processes; "
            "use default or max-autotune-no-cudagraphs"
        )
    # The loader drops what does not fill a batch, so every shape is seen in the first step.
    return torch.compile(called, mode=mode, dynamic=False)  # type: ignore[return-value]


def _share_gradients(module: nn.Module, *, device: torch.device, world: World) -> nn.Module:
    """Let the gradients of a module be the mean over all processes; the module itself where there is one."""
    if world.size == 1:
        return module
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)


def allow_tf32(*, enabled: bool) -> None:
    """Let CUDA round the factors of float32 products and convolutions to TF32, or forbid it."""
    # Not by the newer `fp32_precision`: once that is set, torch refuses to tell these, and torch.export asks for them.
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled
