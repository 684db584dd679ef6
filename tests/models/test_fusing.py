"""Deployed networks compute what trained ones do, with convolutions alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from facerec.models.backbones.fusing import ConvNorm, RepDepthwise, fuse_modules


def settle(module: nn.Module, width: int) -> nn.Module:
    """Normalisations with statistics, scales and shifts unlike the initial ones."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.3, 2.0)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3.0)
    return module.eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [5, 7])
def test_branches_add_up_to_one_kernel(kernel: int, stride: int) -> None:
    module = settle(RepDepthwise(6, kernel=kernel, stride=stride), 6)
    images = torch.randn(2, 6, 13, 10)
    expected = module(images)
    fused = copy.deepcopy(module)
    fuse_modules(fused)
    torch.testing.assert_close(fused(images), expected, rtol=0, atol=1e-5)
    assert [type(layer) for layer in fused.modules() if not list(layer.children())] == [nn.Conv2d]


def test_branches_are_a_large_a_small_and_an_identity_one() -> None:
    """By hand: each convolution and the input itself, each normalised by its own statistics."""
    module = settle(RepDepthwise(3, kernel=7), 3)
    images = torch.randn(2, 3, 9, 9)

    def normalise(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        centred = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        return centred * norm.weight[:, None, None] + norm.bias[:, None, None]

    large = F.conv2d(images, module.large.conv.weight, padding=3, groups=3)
    small = F.conv2d(images, module.small.conv.weight, padding=1, groups=3)
    expected = normalise(large, module.large.norm) + normalise(small, module.small.norm)
    torch.testing.assert_close(module(images), expected + normalise(images, module.identity))


@pytest.mark.parametrize("groups", [1, 4])
def test_normalisation_folds_into_the_convolution(groups: int) -> None:
    module = settle(ConvNorm(8, 12, kernel=(3, 5), stride=2, groups=groups), 12).double()
    images = torch.randn(2, 8, 11, 12, dtype=torch.float64)
    expected = module(images)
    module.fuse()
    torch.testing.assert_close(module(images), expected)
    assert module.norm is None


def test_fusing_again_changes_nothing_and_keeps_memory_format_and_frozen_weights() -> None:
    module = settle(ConvNorm(8, 8, kernel=3), 8).to(memory_format=torch.channels_last).requires_grad_(False)
    fuse_modules(module)
    weight = module.conv.weight.clone()
    fuse_modules(module)
    assert torch.equal(module.conv.weight, weight)
    assert module.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(parameter.requires_grad for parameter in module.parameters())
