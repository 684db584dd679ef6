"""Improved residual networks as face recognition uses them: the "R50" and "R100" of the published tables.

Source: Duta et al. 2020, arXiv:2004.04989; shape and parameter names of arcface_torch's ``backbones/iresnet.py``, so
that its weight files load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facerec.models.backbones.base import Backbone, halve_up
from facerec.models.precision import embed_float32

__all__ = ["IResNet", "iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200", "iresnet_mini"]

_WIDTHS = (64, 128, 256, 512)


class _Block(nn.Module):
    """BN - conv3x3 - BN - PReLU - conv3x3 - BN, plus the input; nothing follows the addition."""

    def __init__(self, in_width: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_width != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x_BCHW))))))
        y_BCHW += x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return y_BCHW


class IResNet(Backbone):
    """An improved residual network of the given depths and widths.

    Shape: images (B, 3, H, W) to embeddings (B, D), float32. The scale of the last batch normalisation is fixed at 1.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        *,
        embedding_size: int,
        image_hw: tuple[int, int],
        dropout: float = 0.0,
        widths: tuple[int, int, int, int] = _WIDTHS,
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        self.layer1 = _stage(widths[0], widths[0], depth=depths[0])
        self.layer2 = _stage(widths[0], widths[1], depth=depths[1])
        self.layer3 = _stage(widths[1], widths[2], depth=depths[2])
        self.layer4 = _stage(widths[2], widths[3], depth=depths[3])
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.dropout = nn.Dropout(dropout)
        height, width = halve_up(image_hw, 4)
        self.fc = nn.Linear(widths[3] * height * width, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        x_BCHW = self.prelu(self.bn1(self.conv1(images_BCHW)))
        x_BCHW = self.layer4(self.layer3(self.layer2(self.layer1(x_BCHW))))
        features_BF = self.dropout(torch.flatten(self.bn2(x_BCHW), 1))
        return embed_float32(features_BF, fc=self.fc, norm=self.features)


def _stage(in_width: int, width: int, *, depth: int) -> nn.Sequential:
    first = _Block(in_width, width, stride=2)
    return nn.Sequential(first, *(_Block(width, width, stride=1) for _ in range(depth - 1)))


def iresnet18(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """24.03 M parameters, 2.61 GMACs at 112x112."""
    return IResNet((2, 2, 2, 2), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def iresnet34(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """34.14 M parameters, 4.46 GMACs at 112x112."""
    return IResNet((3, 4, 6, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def iresnet50(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """43.59 M parameters, 6.31 GMACs at 112x112."""
    return IResNet((3, 4, 14, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def iresnet100(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """65.16 M parameters, 12.09 GMACs at 112x112."""
    return IResNet((3, 13, 30, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def iresnet200(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """The deepest of the family."""
    return IResNet((6, 26, 60, 6), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def iresnet_mini(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0) -> IResNet:
    """One block a stage at half the width: small enough for a CPU, for demonstrations and tests."""
    widths = (32, 64, 128, 256)
    return IResNet((1, 1, 1, 1), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, widths=widths)
