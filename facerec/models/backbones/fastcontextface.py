"""FastContextFace: a light network of ConvNeXt-like blocks with squeeze-and-excitation, for small machines.

4.236 M parameters, 603 MMACs at 112x112. There is no paper. The shape and the parameter names are those of the
framework that introduced it, so that its weights load (`convert_late_gate`), with one repair: there the gate followed
the layer scale of 1e-6, so it saw zeros, had the same value for every channel and got no gradient; here it comes first.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facerec.errors import ModelError
from facerec.models.backbones.base import Backbone
from facerec.models.precision import embed_float32

__all__ = ["FastContextFace", "convert_late_gate", "fastcontextface"]

_DEPTHS = (2, 2, 6, 2)
_WIDTHS = (48, 96, 192, 384)
_LAYER_SCALE = 1e-6
_SQUEEZE = 4
_SMALLEST_SIDE = 16


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel.

    The fused kernel reads channels last: free where that is the memory format already, one copy where it is not.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method's argument
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Gate(nn.Module):
    """Squeeze-and-excitation: one factor in (0, 1) per channel, from the channels' means (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width // _SQUEEZE, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(width // _SQUEEZE, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gate_BC: Tensor = self.fc(x_BCHW.mean((2, 3)))
        return gate_BC[:, :, None, None]


class _Block(nn.Module):
    """Depthwise 7x7 - BN - 1x1 (x3) - GELU - 1x1 - gate - layer scale, plus the input."""

    # Saved by torch with a state dict: version 1 is a state whose gate follows the layer scale.
    _version = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial_mix = nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pwconv1 = nn.Conv2d(width, 3 * width, 1)
        self.pwconv2 = nn.Conv2d(3 * width, width, 1)
        self.attn = _Gate(width)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), _LAYER_SCALE))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.pwconv2(F.gelu(self.pwconv1(self.norm(self.spatial_mix(x_BCHW)))))
        # Gate and scale are multiplied first: they are small, and the map is then passed over once.
        return torch.addcmul(x_BCHW, y_BCHW, self.attn(y_BCHW) * self.gamma)


class FastContextFace(Backbone):
    """Four stages of blocks, then a depthwise convolution over the whole map.

    Shape: images (B, 3, H, W), H and W at least 16, to embeddings (B, D), float32.

    Raises:
        ModelError: the pictures are too small.
    """

    def __init__(self, *, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        if min(image_hw) < _SMALLEST_SIDE:
            raise ModelError(f"fastcontextface needs images of at least {_SMALLEST_SIDE} pixels a side, not {image_hw}")
        width = _WIDTHS[-1]
        self.downsample_layers = nn.ModuleList([_stem(_WIDTHS[0])])
        for before, after in itertools.pairwise(_WIDTHS):
            self.downsample_layers.append(
                nn.Sequential(_ChannelNorm(before, eps=1e-6), nn.Conv2d(before, after, 2, stride=2))
            )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(size) for _ in range(depth))) for size, depth in zip(_WIDTHS, _DEPTHS, strict=True)
        )
        self.norm = _ChannelNorm(width, eps=1e-6)
        self.gdc = nn.Conv2d(width, width, _map_hw(image_hw), groups=width, bias=False)
        self.bn_gdc = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(width, embedding_size)
        self.bn_fc = nn.BatchNorm1d(embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        x_BCHW = images_BCHW
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_BCHW = stage(downsample(x_BCHW))
        features_BF = self.bn_gdc(self.gdc(self.norm(x_BCHW))).flatten(1)
        return embed_float32(self.dropout(features_BF), fc=self.fc, norm=self.bn_fc)


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), _ChannelNorm(width, eps=1e-6))


def _map_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the last map: halved, rounded up, by the stem; then three times, rounded down."""
    height, width = ((side + 1) // 2 // 8 for side in image_hw)
    return height, width


def convert_late_gate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn weights trained with the gate behind the layer scale into weights of this module, exactly.

    Both compute x + γ·y·g, with g = σ(W2 ReLU(W1 mean(γ·y))) there and σ(W2 ReLU(W1 mean(y))) here. As
    W1 mean(γ·y) = (W1 diag γ) mean(y), it is enough to multiply the columns of W1 by γ.

    Shape: ``attn.fc.0.weight`` (C / 4, C) and ``gamma`` (C, 1, 1) of each block; all else is passed on.
    """
    converted = dict(state)
    for name, gamma_C11 in state.items():
        gate = f"{name.removesuffix('gamma')}attn.fc.0.weight"
        if name.endswith(".gamma") and gate in state:
            converted[gate] = state[gate] * gamma_C11.flatten()
    return converted


def fastcontextface(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> FastContextFace:
    """4.236 M parameters, 603 MMACs at 112x112."""
    return FastContextFace(embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)
