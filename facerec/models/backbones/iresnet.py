"""Improved residual networks as face recognition uses them: the "R50" and "R100" of the published tables.

Source: Duta et al. 2020, arXiv:2004.04989; shape and parameter names of arcface_torch's ``backbones/iresnet.py``, so
that its weight files load.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facerec.models.backbones.adaface_names import CORE_NAMES, add_projection, is_adaface, rename_adaface
from facerec.models.backbones.base import Backbone, halve_up
from facerec.models.backbones.checkpointing import run_block
from facerec.models.precision import embed_float32
from facerec.models.prelu import PReLU

__all__ = [
    "IResNet",
    "ir_18",
    "ir_34",
    "ir_50",
    "ir_101",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "iresnet200",
    "iresnet_mini",
]

_WIDTHS = (64, 128, 256, 512)
_IMAGE_SQUARE = 0.3
"""Mean square of pictures in [-1, 1]."""
_PRELU_SQUARE = (1.0 + 0.25**2) / 2
"""Mean square behind a new PReLU, whose slope is 1/4, of an input of variance 1."""


def _expect(norm: _BatchNorm, filters: Tensor, *, square: float) -> None:
    """Variance behind random filters of mean 0: their squares, summed, times the mean square of the input."""
    _set_variance(norm, filters.square().flatten(1).sum(1) * square)


def _set_variance(norm: _BatchNorm, variance: Tensor) -> None:
    assert norm.running_var is not None
    norm.running_var.copy_(variance)


class _Block(nn.Module):
    """BN - conv3x3 - BN - PReLU - conv3x3 - BN, plus the input; nothing follows the addition."""

    def __init__(self, in_width: int, width: int, *, stride: int, projected: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if projected:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )
        elif stride != 1:
            self.downsample = nn.MaxPool2d(1, stride)  # every second pixel, without a parameter

    def expect_statistics(self, square: float) -> float:
        """Set the running variances for an input whose mean square is ``square``; returns that of the output."""
        _set_variance(self.bn1, torch.tensor(square))
        _expect(self.bn2, self.conv1.weight, square=1.0)
        _expect(self.bn3, self.conv2.weight, square=_PRELU_SQUARE)
        if isinstance(self.downsample, nn.Sequential):
            conv, norm = self.downsample
            _expect(cast(nn.BatchNorm2d, norm), cast(nn.Conv2d, conv).weight, square=square)
            return 2.0  # both branches end in a normalisation
        return square + 1.0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x_BCHW))))))
        y_BCHW += x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return y_BCHW


class IResNet(Backbone):
    """An improved residual network of the given depths and widths.

    Shape: images (B, 3, H, W) to embeddings (B, D), float32. The scale of the last batch normalisation is fixed at 1.

    Args:
        adaface: the variant of AdaFace's ``net.py``: where the width stays, the shortcut takes every second pixel
            instead of a projection; the last normalisation has neither scale nor shift; He initialisation.
    """

    supports_grad_checkpointing = True

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        *,
        embedding_size: int,
        image_hw: tuple[int, int],
        dropout: float = 0.0,
        widths: tuple[int, int, int, int] = _WIDTHS,
        adaface: bool = False,
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.adaface = adaface
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = PReLU(widths[0])
        self.layer1 = _stage(widths[0], widths[0], depth=depths[0], projected=not adaface)
        self.layer2 = _stage(widths[0], widths[1], depth=depths[1])
        self.layer3 = _stage(widths[1], widths[2], depth=depths[2])
        self.layer4 = _stage(widths[2], widths[3], depth=depths[3])
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.dropout = nn.Dropout(dropout)
        height, width = halve_up(image_hw, 4)
        self.fc = nn.Linear(widths[3] * height * width, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, affine=not adaface)
        if adaface:
            _start_by_he(self)
        else:
            self.features.weight.requires_grad_(False)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, 0.0, 0.1)
        self._expect_statistics()

    @torch.no_grad()
    def _expect_statistics(self) -> None:
        """Let the running variances begin with what the random weights give.

        With the usual 1 an untrained network multiplies its input by about 5 in every block when it is evaluated:
        iresnet50 ends near 1e26, whose square is no float32, and iresnet200 overflows. Training is not concerned; its
        first batches replace these values as they would replace ones.
        """
        _expect(self.bn1, self.conv1.weight, square=_IMAGE_SQUARE)
        square = _PRELU_SQUARE
        for block in itertools.chain(self.layer1, self.layer2, self.layer3, self.layer4):
            square = cast(_Block, block).expect_statistics(square)
        _set_variance(self.bn2, torch.tensor(square))
        _expect(self.features, self.fc.weight, square=1.0)

    def adopt(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Take AdaFace's weights under its own names, for BGR."""
        if not is_adaface(tensors):
            return dict(tensors), ""
        renamed = rename_adaface(tensors)
        if self.adaface or not renamed.keys() >= CORE_NAMES:
            return renamed, ", of AdaFace, turned from BGR to RGB"
        note = "the first shortcut an identity projection; to train on, take the ir_ backbone of the same depth"
        return add_projection(renamed), f", of AdaFace, turned from BGR to RGB, {note}"

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        x_BCHW = self.prelu(self.bn1(self.conv1(images_BCHW)))
        for block in itertools.chain(self.layer1, self.layer2, self.layer3, self.layer4):
            x_BCHW = run_block(block, x_BCHW, recompute=self.grad_checkpointing)
        features_BF = self.dropout(torch.flatten(self.bn2(x_BCHW), 1))
        return embed_float32(features_BF, fc=self.fc, norm=self.features)


def _stage(in_width: int, width: int, *, depth: int, projected: bool = True) -> nn.Sequential:
    first = _Block(in_width, width, stride=2, projected=projected)
    return nn.Sequential(first, *(_Block(width, width, stride=1, projected=False) for _ in range(depth - 1)))


def _start_by_he(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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


def ir_18(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> IResNet:
    """AdaFace's IR-18."""
    return IResNet((2, 2, 2, 2), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, adaface=True)


def ir_34(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> IResNet:
    """AdaFace's IR-34."""
    return IResNet((3, 4, 6, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, adaface=True)


def ir_50(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> IResNet:
    """AdaFace's IR-50."""
    return IResNet((3, 4, 14, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, adaface=True)


def ir_101(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> IResNet:
    """AdaFace's IR-101; the depths of iresnet100."""
    return IResNet((3, 13, 30, 3), embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, adaface=True)
