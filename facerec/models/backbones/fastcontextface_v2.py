"""FastContextFace v2: half the operations of `fastcontextface`, and nothing but convolutions once it is deployed.

What changed, and why:

- Depthwise 7x7 kernels are trained beside a 3x3 and an identity branch, each with its own batch normalisation, and
  `FastContextFaceV2.fuse` adds the three into one kernel: large kernels alone find small structure slowly, and the
  branches cost nothing when the network is used (Ding et al. 2022, arXiv:2203.06717; RepVGG, arXiv:2101.03697).
- Batch normalisation everywhere, so that every normalisation folds into the convolution before it. The layer
  normalisations of the first design stay for ever, as a string of element-wise passes.
- The context gate stands on the expanded channels, before the layer scale, and starts near 1; the first design's stood
  behind a scale of 1e-6 and was dead at the start. The layer scale is the weight of the block's last normalisation
  (Goyal et al. 2017, arXiv:1706.02677, section 5.1, for the idea), so it folds as well.
- Stochastic depth (Huang et al. 2016, arXiv:1603.09382), rising linearly over the blocks.
- A global depthwise convolution gathers the map (MobileFaceNet, Chen et al. 2018, arXiv:1804.07573): the places of a
  face are not equally telling, which average pooling supposes.
- Few blocks at 56x56, where a block costs as much as at 14x14 and has a sixteenth of the weights.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from facerec.models.backbones.base import Backbone, halve_up
from facerec.models.backbones.fusing import ConvNorm, RepDepthwise
from facerec.models.precision import embed_float32
from facerec.models.prelu import PReLU

__all__ = ["FastContextFaceV2", "fastcontextface_v2"]

_DEPTHS = (1, 3, 7, 2)
_WIDTHS = (32, 80, 160, 320)
_EXPANSION = 2
_KERNEL = 7
_SQUEEZE = 8
_LAYER_SCALE = 0.25
_FEATURES = 384


class _Gate(nn.Module):
    """One factor in (0, 2) per channel, from the means of all channels over the map; near 1 at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // _SQUEEZE, 1)
        self.excite = nn.Conv2d(width // _SQUEEZE, width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        means_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        return x_BCHW * (2.0 * self.excite(self.squeeze(means_BC11).relu()).sigmoid())


class _Block(nn.Module):
    """Depthwise 7x7 - 1x1 (x2) - PReLU - gate - 1x1 with the layer scale, plus the input."""

    def __init__(self, width: int, *, drop_path: float) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.mix = RepDepthwise(width, kernel=_KERNEL)
        self.expand = ConvNorm(width, inner)
        self.act = PReLU(inner)
        self.gate = _Gate(inner)
        self.project = ConvNorm(inner, width)
        self.project.start_at(_LAYER_SCALE)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.project(self.gate(self.act(self.expand(self.mix(x_BCHW)))))
        return x_BCHW + self.drop_path(y_BCHW)


class _Down(nn.Module):
    """Half the size by a depthwise 7x7, then the new width by a 1x1."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.mix = RepDepthwise(width_in, kernel=_KERNEL, stride=2)
        self.widen = ConvNorm(width_in, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.widen(self.mix(x_BCHW))
        return y_BCHW


class FastContextFaceV2(Backbone):
    """A stem of stride 2, four stages, and a depthwise convolution over the whole map.

    Shape: images (B, 3, H, W) to embeddings (B, D), float32.
    """

    def __init__(
        self, *, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0, drop_path: float = 0.05
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.stem = ConvNorm(3, _WIDTHS[0], kernel=3, stride=2)
        self.stem_act = PReLU(_WIDTHS[0])
        rates = iter(torch.linspace(0.0, drop_path, sum(_DEPTHS), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width, drop_path=next(rates)) for _ in range(depth)))
            for width, depth in zip(_WIDTHS, _DEPTHS, strict=True)
        )
        self.downs = nn.ModuleList(_Down(before, after) for before, after in itertools.pairwise(_WIDTHS))
        self.widen = ConvNorm(_WIDTHS[-1], _FEATURES)
        self.widen_act = PReLU(_FEATURES)
        map_hw = halve_up(image_hw, 4)
        self.gdc = ConvNorm(_FEATURES, _FEATURES, kernel=map_hw, padding=0, groups=_FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(_FEATURES, embedding_size, bias=False)
        self.bn_fc = nn.BatchNorm1d(embedding_size)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        x_BCHW = self.stages[0](self.stem_act(self.stem(images_BCHW)))
        for down, stage in zip(self.downs, itertools.islice(self.stages, 1, None), strict=True):
            x_BCHW = stage(down(x_BCHW))
        features_BF = self.gdc(self.widen_act(self.widen(x_BCHW))).flatten(1)
        return embed_float32(self.dropout(features_BF), fc=self.fc, norm=self.bn_fc)


def fastcontextface_v2(
    *, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0, drop_path: float = 0.05
) -> FastContextFaceV2:
    """Half of the operations of `fastcontextface`."""
    return FastContextFaceV2(embedding_size=embedding_size, image_hw=image_hw, dropout=dropout, drop_path=drop_path)
