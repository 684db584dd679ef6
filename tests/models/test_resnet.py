"""The networks of ImageNet's shape: torchvision's trunk, our embedding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from facerec.models.backbones.resnet import ResNet, resnet18, resnet34, resnet50, resnet101


@pytest.mark.parametrize("build", [resnet18, resnet34, resnet50, resnet101])
def test_trunk_is_torchvisions_and_the_classifier_is_replaced(build: Callable[..., ResNet]) -> None:
    with torch.device("meta"):
        ours = build(embedding_size=64, image_hw=(112, 112)).state_dict()
        theirs = getattr(torchvision.models, build.__name__)(weights=None).state_dict()
    trunk = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}
    assert {name: ours[name].shape for name in trunk} == trunk
    width = theirs["fc.weight"].shape[1]
    assert {name: tuple(ours[name].shape) for name in ours if name not in trunk} == {
        "fc.weight": (64, width),
        "fc.bias": (64,),
        "bn_fc.weight": (64,),
        "bn_fc.bias": (64,),
        "bn_fc.running_mean": (64,),
        "bn_fc.running_var": (64,),
        "bn_fc.num_batches_tracked": (),
    }


def test_embedding_is_the_linear_layer_and_normalisation_of_torchvisions_pooled_features() -> None:
    torch.manual_seed(0)
    ours = resnet18(embedding_size=16, image_hw=(48, 48)).eval()
    theirs = torchvision.models.resnet18(weights=None).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith(("fc.", "bn_fc."))})
    with torch.no_grad():
        ours.bn_fc.running_mean.normal_()
        ours.bn_fc.running_var.uniform_(0.5, 2.0)
        images = torch.rand(2, 3, 48, 48)
        features = theirs(images)
        expected = (features @ ours.fc.weight.T + ours.fc.bias - ours.bn_fc.running_mean) / (
            ours.bn_fc.running_var + 1e-5
        ).sqrt()
        torch.testing.assert_close(ours(images), expected)


def test_dropout_of_two_fifths_is_the_default() -> None:
    with torch.device("meta"):
        assert resnet18(embedding_size=16, image_hw=(48, 48)).dropout.p == 0.4


def test_pooling_takes_images_of_any_size() -> None:
    with torch.device("meta"):
        backbone = resnet18(embedding_size=16, image_hw=(48, 48))
        assert backbone(torch.zeros(2, 3, 80, 33)).shape == (2, 16)
