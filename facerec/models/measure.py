"""How large a backbone is and how much it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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
    """Count the parameters of ``backbone`` and its operations on one image, by running it in evaluation mode.

    On the meta device nothing is computed and no memory taken.
    """
    parameters = list(backbone.parameters())
    image_BCHW = torch.zeros(1, 3, *image_hw, device=parameters[0].device, dtype=parameters[0].dtype)
    # Counted by hooks: torch's FlopCounterMode gives the same numbers and takes seconds to import.
    macs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda layer, _, output: macs.append(_macs(layer, output)))
        for module in backbone.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            backbone(image_BCHW)
    finally:
        for module, was_training in training.items():
            module.training = was_training
        for hook in hooks:
            hook.remove()
    return ModelSize(
        params=sum(parameter.numel() for parameter in parameters),
        trainable_params=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        macs=sum(macs),
    )


def _macs(layer: Any, output: Tensor) -> int:
    """Every output is one dot product with one filter."""
    filter_size: int = layer.weight[0].numel()
    return output.numel() * filter_size
