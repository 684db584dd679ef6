"""Sizes and costs, by hand and as published."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facerec.models.measure import ModelSize, measure
from facerec.models.sizes import SIZES
from facerec.registry import BACKBONES

_PUBLISHED = {
    "iresnet18": (24.03, 2.61),
    "iresnet34": (34.14, 4.46),
    "iresnet50": (43.59, 6.31),
    "iresnet100": (65.16, 12.09),
}


def test_counts_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 16x16 outputs of 8 filters of 27
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # 16x16 outputs of 8 filters of 9
        nn.Flatten(),
        nn.Linear(8 * 256, 10),
    )
    network[1].weight.requires_grad_(False)
    params = (8 * 27 + 8) + 16 + 8 * 9 + (2048 * 10 + 10)
    macs = 256 * 8 * 27 + 256 * 8 * 9 + 2048 * 10
    assert measure(network, image_hw=(32, 32)) == ModelSize(params=params, trainable_params=params - 8, macs=macs)


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    network[1].eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure(network, image_hw=(8, 8))
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert not network[0]._forward_hooks


@pytest.mark.parametrize(("name", "published"), _PUBLISHED.items())
def test_iresnets_have_the_published_size(name: str, published: tuple[float, float]) -> None:
    params, macs = SIZES[name]  # that they are the measured ones is in the contract
    assert (round(params / 1e6, 2), round(macs / 1e9, 2)) == published


def test_light_networks_have_the_published_size() -> None:
    assert round(SIZES["resnet50"][0] / 1e6, 1) == 24.6
    assert round(SIZES["resnet50"][1] / 1e9, 2) == 1.08
    assert round(SIZES["mobilefacenet"][0] / 1e6, 2) == 2.06
    assert int(SIZES["mobilefacenet"][1] / 1e6) == 437
    assert round(SIZES["fastcontextface"][0] / 1e6, 3) == 4.236
    assert round(SIZES["fastcontextface"][1] / 1e6) == 603


@pytest.mark.parametrize("name", ["iresnet18", "resnet50", "mobilefacenet", "fastcontextface"])
def test_macs_are_half_of_torchs_own_count_of_operations(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES.entry(name).load()(embedding_size=512, image_hw=(112, 112)).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, 3, 112, 112))
    assert measure(backbone, image_hw=(112, 112)).macs * 2 == counter.get_total_flops()
