"""Residual networks of ImageNet's shape, from torchvision, with an embedding in place of the classifier.

The 7x7 stem and the max-pooling leave a 4x4 map of a 112x112 face, so they are cheap (resnet50: 1.08 GMACs) and cannot
reach the published results of the ``iresnet`` family.

Source: He et al. 2015, arXiv:1512.03385.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from facerec.models.backbones.base import Backbone
from facerec.models.precision import embed_float32

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101"]


class ResNet(Backbone):
    """The trunk of a torchvision network, then dropout, a linear layer and batch normalisation on the pooled features.

    Shape: images (B, 3, H, W), of any H and W, to embeddings (B, D), float32.
    """

    def __init__(
        self,
        trunk: torchvision.models.ResNet,
        *,
        embedding_size: int,
        image_hw: tuple[int, int],
        dropout: float,
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.conv1 = trunk.conv1
        self.bn1 = trunk.bn1
        self.relu = trunk.relu
        self.maxpool = trunk.maxpool
        self.layer1 = trunk.layer1
        self.layer2 = trunk.layer2
        self.layer3 = trunk.layer3
        self.layer4 = trunk.layer4
        self.avgpool = trunk.avgpool
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(trunk.fc.in_features, embedding_size)
        self.bn_fc = nn.BatchNorm1d(embedding_size)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        x_BCHW = self.maxpool(self.relu(self.bn1(self.conv1(images_BCHW))))
        x_BCHW = self.layer4(self.layer3(self.layer2(self.layer1(x_BCHW))))
        features_BF = self.dropout(torch.flatten(self.avgpool(x_BCHW), 1))
        return embed_float32(features_BF, fc=self.fc, norm=self.bn_fc)


def resnet18(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> ResNet:
    """Basic blocks, depths 2, 2, 2, 2."""
    trunk = torchvision.models.resnet18(weights=None)
    return ResNet(trunk, embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def resnet34(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> ResNet:
    """Basic blocks, depths 3, 4, 6, 3."""
    trunk = torchvision.models.resnet34(weights=None)
    return ResNet(trunk, embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def resnet50(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> ResNet:
    """Bottleneck blocks, depths 3, 4, 6, 3: 24.6 M parameters, 1.08 GMACs at 112x112."""
    trunk = torchvision.models.resnet50(weights=None)
    return ResNet(trunk, embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)


def resnet101(*, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.4) -> ResNet:
    """Bottleneck blocks, depths 3, 4, 23, 3."""
    trunk = torchvision.models.resnet101(weights=None)
    return ResNet(trunk, embedding_size=embedding_size, image_hw=image_hw, dropout=dropout)
