"""MobileFaceNet: the paper's network, and the two wider ones that arcface_torch calls ``mbf`` and ``mbf_large``.

Source: Chen et al. 2018, arXiv:1804.07573, table 1; the wider widths and parameter names of arcface_torch's
``backbones/mobilefacenet.py``, so that its weight files load.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from facerec.models.backbones.base import Backbone, halve_up
from facerec.models.precision import embed_float32
from facerec.models.prelu import PReLU

__all__ = ["MobileFaceNet", "mobilefacenet", "mobilefacenet_large", "mobilefacenet_paper"]

_FEATURES = 512
_STEM_GROUPS = 64


class _Conv(nn.Module):
    """Convolution - BN, then a PReLU unless ``linear``."""

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        kernel_hw: tuple[int, int] = (1, 1),
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(in_width, width, kernel_hw, stride=stride, padding=padding, groups=groups, bias=False)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(width))
        if not linear:
            self.layers.append(PReLU(width))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW)
        return y_BCHW


class _Bottleneck(nn.Module):
    """1x1 to ``inner`` channels, depthwise 3x3, 1x1 back; with stride 1 the input is added."""

    def __init__(self, in_width: int, width: int, *, inner: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1
        self.layers = nn.Sequential(
            _Conv(in_width, inner),
            _Conv(inner, inner, kernel_hw=(3, 3), stride=stride, padding=1, groups=inner),
            _Conv(inner, width, linear=True),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW)
        if self.residual:
            y_BCHW += x_BCHW
        return y_BCHW


class _Repeat(nn.Module):
    """Bottlenecks of stride 1, one after another."""

    def __init__(self, width: int, *, inner: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Bottleneck(width, width, inner=inner, stride=1) for _ in range(depth)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW)
        return y_BCHW


class _Embedding(nn.Module):
    """A depthwise convolution over the whole map, a linear layer and batch normalisation, the last two in float32."""

    def __init__(self, *, map_hw: tuple[int, int], embedding_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Conv(_FEATURES, _FEATURES, kernel_hw=map_hw, groups=_FEATURES, linear=True),
            nn.Flatten(),
            nn.Linear(_FEATURES, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        conv, flatten, fc, norm = self.layers
        return embed_float32(flatten(conv(x_BCHW)), fc=cast(nn.Linear, fc), norm=norm)


class MobileFaceNet(Backbone):
    """Two convolutions, then bottlenecks at 28, 14 and 7 pixels.

    Shape: images (B, 3, H, W) to embeddings (B, D), float32.

    Args:
        width: channels of the first two stages; the others have twice as many. The inner widths of the bottlenecks
            are those of the paper (width 64) whatever the width, so the wider networks are thin inside.
        depths: bottlenecks of stride 1 at 56, 28, 14 and 7 pixels; 1 at 56 pixels means a single convolution.
    """

    def __init__(
        self, *, embedding_size: int, image_hw: tuple[int, int], width: int, depths: tuple[int, int, int, int]
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        stem: nn.Module = _Conv(width, width, kernel_hw=(3, 3), padding=1, groups=_STEM_GROUPS)
        self.layers = nn.Sequential(
            _Conv(3, width, kernel_hw=(3, 3), stride=2, padding=1),
            stem if depths[0] == 1 else _Repeat(width, inner=128, depth=depths[0]),
            _Bottleneck(width, width, inner=128, stride=2),
            _Repeat(width, inner=128, depth=depths[1]),
            _Bottleneck(width, 2 * width, inner=256, stride=2),
            _Repeat(2 * width, inner=256, depth=depths[2]),
            _Bottleneck(2 * width, 2 * width, inner=512, stride=2),
            _Repeat(2 * width, inner=256, depth=depths[3]),
        )
        self.conv_sep = _Conv(2 * width, _FEATURES)
        self.features = _Embedding(map_hw=halve_up(image_hw, 4), embedding_size=embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        embeddings_BD: Tensor = self.features(self.conv_sep(self.layers(images_BCHW)))
        return embeddings_BD


def mobilefacenet(*, embedding_size: int, image_hw: tuple[int, int]) -> MobileFaceNet:
    """The ``mbf`` of arcface_torch: 2.06 M parameters, 437 MMACs at 112x112."""
    return MobileFaceNet(embedding_size=embedding_size, image_hw=image_hw, width=128, depths=(1, 4, 6, 2))


def mobilefacenet_large(*, embedding_size: int, image_hw: tuple[int, int]) -> MobileFaceNet:
    """The ``mbf_large`` of arcface_torch: twice as wide and as deep."""
    return MobileFaceNet(embedding_size=embedding_size, image_hw=image_hw, width=256, depths=(2, 8, 12, 4))


def mobilefacenet_paper(*, embedding_size: int, image_hw: tuple[int, int]) -> MobileFaceNet:
    """The network of the paper: 0.99 M parameters with its 128 dimensions, 1.19 M with 512."""
    return MobileFaceNet(embedding_size=embedding_size, image_hw=image_hw, width=64, depths=(1, 4, 6, 2))
