"""Convolutions with batch normalisation that become plain convolutions when a network is only used.

In evaluation mode a normalisation is y = x · a + b with a = γ / √(σ² + ε) and b = β - μ · a, so it folds into the
filters before it, and parallel branches of linear operations add up to one.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["ConvNorm", "RepDepthwise", "can_fuse", "fuse_modules"]

_SMALL = 3


class ConvNorm(nn.Module):
    """A convolution, which has no bias until it is fused, and its batch normalisation.

    ``padding`` None keeps the size (for odd kernels and stride 1).
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        kernel_hw = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding_hw = (kernel_hw[0] // 2, kernel_hw[1] // 2) if padding is None else (padding, padding)
        self.conv = nn.Conv2d(width_in, width, kernel_hw, stride=stride, padding=padding_hw, groups=groups, bias=False)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width)

    def start_at(self, scale: float) -> None:
        """Let the normalisation begin with the weight ``scale`` for every channel."""
        assert self.norm is not None
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps (B, C, H, W) of the new width."""
        y_BCHW: Tensor = self.conv(x_BCHW)
        return y_BCHW if self.norm is None else self.norm(y_BCHW)

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the normalisation into the convolution, with its running statistics."""
        if self.norm is None:
            return
        scale_C, shift_C = _affine(self.norm)
        kernel = self.conv.weight.double() * scale_C[:, None, None, None]
        self.conv = _conv_like(self.conv, kernel=kernel, bias_C=shift_C)
        self.norm = None


class RepDepthwise(nn.Module):
    """A large depthwise kernel with a 3x3 and, at stride 1, an identity branch; each is normalised, then all are added.

    Source: Ding et al. 2022, arXiv:2203.06717, section 3, guideline 3; Ding et al. 2021, arXiv:2101.03697, figure 4.
    """

    def __init__(self, width: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.large = ConvNorm(width, width, kernel=kernel, stride=stride, groups=width)
        self.small: ConvNorm | None = ConvNorm(width, width, kernel=_SMALL, stride=stride, groups=width)
        self.identity: nn.BatchNorm2d | None = nn.BatchNorm2d(width) if stride == 1 else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Maps (B, C, H, W) of the same width."""
        y_BCHW: Tensor = self.large(x_BCHW)
        if self.small is not None:
            y_BCHW = y_BCHW + self.small(x_BCHW)
        if self.identity is not None:
            y_BCHW = y_BCHW + self.identity(x_BCHW)
        return y_BCHW

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the branches into the large kernel."""
        if self.small is None or self.large.norm is None or self.small.norm is None:
            return
        large, small = self.large.conv, self.small.conv
        scale_C, bias_C = _affine(self.large.norm)
        kernel = large.weight.double() * scale_C[:, None, None, None]
        margin = (large.kernel_size[0] - _SMALL) // 2
        centre = slice(margin, margin + _SMALL)
        scale_C, shift_C = _affine(self.small.norm)
        kernel[:, :, centre, centre] += small.weight.double() * scale_C[:, None, None, None]
        bias_C = bias_C + shift_C
        if self.identity is not None:
            scale_C, shift_C = _affine(self.identity)
            kernel[:, 0, large.kernel_size[0] // 2, large.kernel_size[1] // 2] += scale_C
            bias_C = bias_C + shift_C
        self.large.conv = _conv_like(large, kernel=kernel, bias_C=bias_C)
        self.large.norm = self.small = self.identity = None


def can_fuse(network: nn.Module) -> bool:
    """Whether `fuse_modules` would change ``network``."""
    return any(isinstance(module, ConvNorm) and module.norm is not None for module in network.modules())


@torch.no_grad()
def fuse_modules(network: nn.Module) -> None:
    """Fuse every `ConvNorm` and `RepDepthwise` of ``network``, in place; it then stands in evaluation mode for good."""
    network.eval()
    # The branches of a RepDepthwise are ConvNorms: it must come first, and modules() gives parents first.
    for module in list(network.modules()):
        if isinstance(module, RepDepthwise):
            module.fuse()
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            module.fuse()


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The factor and the shift that ``norm`` applies to each channel, in float64; (C,) each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale_C, norm.bias.double() - norm.running_mean.double() * scale_C


def _conv_like(conv: nn.Conv2d, *, kernel: Tensor, bias_C: Tensor) -> nn.Conv2d:
    """A convolution with the geometry, dtype, device and memory format of ``conv``, and the given weights."""
    fused = copy.deepcopy(conv)
    fused.weight.copy_(kernel)
    fused.bias = nn.Parameter(bias_C.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    return fused
