"""The loss scaler of float16."""

from __future__ import annotations

import torch
import torch.distributed as dist

__all__ = ["build_scaler"]


def build_scaler(
    device: torch.device, *, init_scale: float, enabled: bool, several: bool = False
) -> torch.amp.GradScaler:
    """A scaler; that of several processes leaves an update out on all of them where one has an overflow."""
    if several and enabled:
        # A shard of the class centres may overflow on one process alone, and the scales must stay the same.
        from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

        # Named, because the default is the group that there was when torch's module was imported.
        return ShardedGradScaler(device.type, init_scale=init_scale, enabled=True, process_group=dist.group.WORLD)
    return torch.amp.GradScaler(device.type, init_scale=init_scale, enabled=enabled)
