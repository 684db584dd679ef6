"""FastContextFace v2: its budget, its gates, its layer scale, and the network that is deployed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from facerec.models.backbones.fastcontextface_v2 import FastContextFaceV2, fastcontextface_v2
from facerec.models.backbones.fusing import can_fuse
from facerec.models.measure import measure

_HW = (48, 40)


def build(**options: float) -> FastContextFaceV2:
    torch.manual_seed(0)
    return fastcontextface_v2(embedding_size=16, image_hw=_HW, **options)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, *_HW, generator=torch.Generator().manual_seed(1)) * 2 - 1


def settled() -> FastContextFaceV2:
    backbone = build()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        backbone(images())
    return backbone.eval()


def test_operations_stay_within_310_million_before_and_after_deployment() -> None:
    with torch.device("meta"):
        backbone = fastcontextface_v2(embedding_size=512, image_hw=(112, 112))
    trained = measure(backbone, image_hw=(112, 112)).macs
    assert trained <= 310e6
    assert measure(backbone.fuse(), image_hw=(112, 112)).macs < trained


def test_deployed_network_gives_the_same_embeddings_without_normalisations_but_the_last() -> None:
    backbone = settled()
    deployed = copy.deepcopy(backbone).fuse()
    with torch.no_grad():
        expected = backbone(images())
        torch.testing.assert_close(deployed(images()), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.3
    norms = [module for module in deployed.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert norms == [deployed.bn_fc]
    assert not any(isinstance(module, nn.LayerNorm) for module in backbone.modules())


def test_deployed_copy_leaves_the_trained_network_alone() -> None:
    backbone = settled()
    names = list(backbone.state_dict())
    deployed = backbone.deployed()
    assert list(backbone.state_dict()) == names
    assert not can_fuse(deployed)
    assert deployed.deployed() is deployed
    with torch.no_grad():
        torch.testing.assert_close(deployed(images()), backbone(images()), rtol=1e-5, atol=1e-5)


def test_gates_start_near_one_and_differ_between_pictures_and_channels() -> None:
    backbone = settled()
    gate = backbone.stages[2][0].gate
    features = torch.rand(4, 320, 3, 3) + 0.5
    with torch.no_grad():
        factors = gate(features) / features
    assert factors.mean() == pytest.approx(1.0, abs=0.15)
    assert factors.std(0).max() > 1e-3
    assert factors.std(1).max() > 1e-2


def test_gates_learn_from_the_first_step() -> None:
    """The first design's did not: they stood behind a layer scale of 1e-6."""
    backbone = build()
    (backbone(images()) * torch.randn(6, 16)).sum().backward()
    block = backbone.stages[1][0]
    gate, neighbour = block.gate.squeeze.weight.grad.norm(), block.expand.conv.weight.grad.norm()
    assert gate > 1e-3 * neighbour


def test_layer_scale_is_the_weight_of_the_last_normalisation() -> None:
    backbone = build().eval()
    block = backbone.stages[0][0]
    assert torch.equal(block.project.norm.weight, torch.full((32,), 0.25))
    nn.init.zeros_(block.project.norm.weight)
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(block(x), x)


def test_stochastic_depth_rises_over_the_blocks_to_the_asked_rate() -> None:
    rates = [module.p for module in build(drop_path=0.3).modules() if isinstance(module, StochasticDepth)]
    assert len(rates) == 13
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(0.3)
    assert rates == sorted(rates)


def test_dropped_blocks_leave_the_input() -> None:
    block = build(drop_path=0.9).stages[3][1].train()
    torch.manual_seed(0)
    x = torch.randn(64, 320, 2, 2)
    with torch.no_grad():
        unchanged = (block(x) == x).flatten(1).all(1)
    assert 45 <= int(unchanged.sum()) < 64
