"""What makes a step faster without changing what it computes: compiling, TF32, several GPUs, kept memory."""

from __future__ import annotations

import ctypes
import logging
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facerec.config.schema import TrainingConfig
from facerec.errors import ConfigError
from facerec.training.distributed import World

__all__ = ["accelerate_backbone", "allow_tf32", "keep_freed_memory"]

_KEEP_FREED_MEMORY = ((-4, 0), (-1, -1))
"""M_MMAP_MAX: no allocation is a mapping of its own; M_TRIM_THRESHOLD: the heap is never cut back (``malloc.h``)."""

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


def keep_freed_memory() -> bool:
    """Have the C library keep what torch frees on the CPU for its next tensor; returns whether it does that now.

    Otherwise every tensor of more than 32 MiB is a new mapping, whose pages the system clears when they are first
    written: a tenth of a step's time. The process then holds its peak of memory until it ends. Only glibc has this;
    another allocator, preloaded in its place, does it by itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _KEEP_FREED_MEMORY)


def allow_tf32(*, enabled: bool) -> None:
    """Let CUDA round the factors of float32 products and convolutions to TF32, or forbid it."""
    # Not by the newer `fp32_precision`: once that is set, torch refuses to tell these, and torch.export asks for them.
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled
