"""PReLU with a backward pass that is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["PReLU"]

_PART = 1 << 20
"""Elements that are worked on at a time, so that what is in between stays in the cache."""


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` with one slope for each channel, with the same numbers and the same state.

    torch 2.15's own backward pass on a CPU goes element by element and takes as long as half of the convolution before
    it; four whole operations on pieces of the batch do the same in a quarter of the time. Everywhere else, and where a
    graph is recorded, it is torch's own. On a CPU it can be differentiated once.

    Shape: (B, C, H, W) to the same.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:  # pyrefly: ignore[bad-override-param-name]
        """Maps with their negative values multiplied by the channel's slope."""
        if not _wants_quick_backward(x_BCHW, self.weight):
            return F.prelu(x_BCHW, self.weight)
        weight_C = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x_BCHW, weight_C = x_BCHW.to(dtype), weight_C.to(dtype)
        result_BCHW: Tensor = _QuickBackward.apply(x_BCHW, weight_C)
        return result_BCHW


def _wants_quick_backward(x_BCHW: Tensor, weight_C: Tensor) -> bool:
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x_BCHW.device.type != "cpu" or x_BCHW.dim() != 4 or is_recorded or not torch.is_grad_enabled():
        return False
    return x_BCHW.requires_grad or weight_C.requires_grad


class _QuickBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_C: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_C)
        return F.prelu(x_BCHW, weight_C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        x_BCHW, weight_C = ctx.saved_tensors
        gradient_BCHW: Tensor = grad_outputs[0]
        slope = weight_C.view(1, -1, 1, 1)
        x_gradient_BCHW = torch.empty_like(x_BCHW)
        weight_gradient_C = torch.zeros_like(weight_C, dtype=torch.promote_types(weight_C.dtype, torch.float32))
        rows = max(1, _PART // max(1, x_BCHW[0].numel()))
        for first in range(0, len(x_BCHW), rows):
            part = slice(first, first + rows)
            x, gradient = x_BCHW[part], gradient_BCHW[part]
            of_positive = torch.ops.aten.threshold_backward(gradient, x, 0)
            of_negative = gradient - of_positive
            torch.addcmul(of_positive, of_negative, slope, out=x_gradient_BCHW[part])
            weight_gradient_C += of_negative.mul_(x).sum((0, 2, 3))
        return x_gradient_BCHW, weight_gradient_C.to(weight_C.dtype)
