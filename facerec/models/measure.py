"""How large a backbone is and how much it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["ModelSize", "measure"]


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Size and cost of a backbone."""

    params: int
    """Numbers that the state holds as parameters."""
    trainable_params: int
    """Those of them that an optimiser changes."""
    macs: int
    """Multiply-accumulate operations for one image, in convolutions, matrix products and attention."""


def measure(backbone: nn.Module, *, image_hw: tuple[int, int]) -> ModelSize:
    """Count the parameters of ``backbone`` and its operations on one image, by running it in evaluation mode.

    On the meta device nothing is computed and no memory taken.
    """
    parameters = list(backbone.parameters())
    image_BCHW = torch.zeros(1, 3, *image_hw, device=parameters[0].device, dtype=parameters[0].dtype)
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    counter = _MacCounter()
    try:
        with torch.no_grad(), counter:
            backbone(image_BCHW)
    finally:
        for module, was_training in training.items():
            module.training = was_training
    return ModelSize(
        params=sum(parameter.numel() for parameter in parameters),
        trainable_params=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        macs=counter.macs,
    )


class _MacCounter(TorchDispatchMode):
    """Adds up what runs under it; torch's FlopCounterMode gives the same numbers and takes seconds to import."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = _COUNTS.get(func.overloadpacket.__name__)
        if count is not None:
            self.macs += count(args, output)
        return output


def _convolution(args: tuple[Any, ...], output: Tensor) -> int:
    """Every output is one dot product with one filter; of a transposed convolution, every input."""
    images, weight, transposed = args[0], args[1], args[6]
    ends: Tensor = images if transposed else output
    filter_size: int = weight[0].numel()
    return ends.numel() * filter_size


def _product(matrix: int) -> Callable[[tuple[Any, ...], Tensor], int]:
    """Every output is one dot product along the last side of the argument at ``matrix``."""
    return lambda args, output: output.numel() * args[matrix].shape[-1]


def _attention(args: tuple[Any, ...], output: Any) -> int:
    """Each query meets each key, and each weight each value."""
    query_BHTE, key_BHSE, value_BHSV = args[:3]
    return query_BHTE[..., 0].numel() * key_BHSE.shape[-2] * (query_BHTE.shape[-1] + value_BHSV.shape[-1])


_COUNTS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "convolution": _convolution,
    "mm": _product(0),
    "bmm": _product(0),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}
