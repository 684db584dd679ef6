"""How large a backbone is and how much it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["ModelSize", "measure"]


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Size and cost of a backbone."""

    params: int
    """Numbers that the state holds as parameters."""
    trainable_params: int
    """Those of them that an optimiser changes."""
    macs: int
    """Multiply-accumulate operations for one image, in convolutions and linear layers."""


def measure(backbone: nn.Module, *, image_hw: tuple[int, int]) -> ModelSize:
    """Count the parameters of ``backbone`` and its operations on one image.

    A backbone on the meta device is measured without computing anything.
    """
    parameters = list(backbone.parameters())
    image_BCHW = torch.zeros(1, 3, *image_hw, device=parameters[0].device, dtype=parameters[0].dtype)
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone(image_BCHW)
    finally:
        backbone.train(was_training)
    return ModelSize(
        params=sum(parameter.numel() for parameter in parameters),
        trainable_params=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        # The counter takes a multiplication and an addition for two operations.
        macs=counter.get_total_flops() // 2,
    )
