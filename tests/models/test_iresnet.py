"""The improved residual networks: names, initial values and forward pass of arcface_torch."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facerec.models.backbones.iresnet import IResNet, iresnet18, iresnet50
from facerec.registry import BACKBONES

_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def names_of(depths: tuple[int, ...]) -> set[str]:
    """The names in a weights file of arcface_torch."""
    norms = ["bn1", "bn2", "features"]
    names = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            names |= {f"{at}.conv1.weight", f"{at}.conv2.weight", f"{at}.prelu.weight"}
            norms += [f"{at}.bn1", f"{at}.bn2", f"{at}.bn3"]
        names.add(f"layer{stage}.0.downsample.0.weight")
        norms.append(f"layer{stage}.0.downsample.1")
    return names | {f"{norm}.{part}" for norm, part in itertools.product(norms, _BN)}


@pytest.mark.parametrize(("build", "depths"), [(iresnet18, (2, 2, 2, 2)), (iresnet50, (3, 4, 14, 3))])
def test_parameter_names_are_those_of_arcface_torch(build: type[IResNet], depths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build(embedding_size=512, image_hw=(112, 112))
    state = backbone.state_dict()
    assert set(state) == names_of(depths)
    assert state["fc.weight"].shape == (512, 25088)
    assert state["layer2.0.conv1.weight"].shape == (128, 64, 3, 3)
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys), eps=1e-5)


def by_hand(images: Tensor, state: dict[str, Tensor], depths: tuple[int, ...]) -> Tensor:
    """The forward pass in evaluation mode, written out from the published description."""
    x = F.prelu(batch_norm(F.conv2d(images, state["conv1.weight"], padding=1), state, "bn1"), state["prelu.weight"])
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 else 1
            y = F.conv2d(batch_norm(x, state, f"{at}.bn1"), state[f"{at}.conv1.weight"], padding=1)
            y = F.prelu(batch_norm(y, state, f"{at}.bn2"), state[f"{at}.prelu.weight"])
            y = F.conv2d(y, state[f"{at}.conv2.weight"], stride=stride, padding=1)
            y = batch_norm(y, state, f"{at}.bn3")
            if block == 0:
                x = F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride)
                x = batch_norm(x, state, f"{at}.downsample.1")
            x = y + x
    x = batch_norm(x, state, "bn2").flatten(1)
    return batch_norm(F.linear(x, state["fc.weight"], state["fc.bias"]), state, "features")


def test_forward_pass_is_the_published_one() -> None:
    torch.manual_seed(0)
    backbone = iresnet18(embedding_size=16, image_hw=(32, 32)).double()
    for name, tensor in backbone.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(20.0, 60.0)
        elif "running_mean" in name or name.endswith("bias"):
            tensor.normal_()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images), by_hand(images, backbone.state_dict(), (2, 2, 2, 2)))


def test_last_scale_is_one_and_fixed_and_all_else_is_trained() -> None:
    with torch.device("cpu"):
        backbone = iresnet18(embedding_size=16, image_hw=(32, 32))
    fixed = [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    assert fixed == ["features.weight"]
    assert torch.equal(backbone.features.weight, torch.ones(16))


def test_initial_values_and_normalisation_settings_are_those_of_arcface_torch() -> None:
    torch.manual_seed(0)
    backbone = iresnet18(embedding_size=16, image_hw=(32, 32))
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            assert float(module.weight.detach().std()) == pytest.approx(0.1, rel=0.1)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)
        if isinstance(module, nn.PReLU):
            assert torch.equal(module.weight, torch.full_like(module.weight, 0.25))


@pytest.mark.parametrize(("image_hw", "positions"), [((112, 112), 49), ((112, 96), 42), ((100, 33), 21), ((16, 15), 1)])
def test_last_layer_fits_images_of_any_size(image_hw: tuple[int, int], positions: int) -> None:
    with torch.device("meta"):
        backbone = iresnet18(embedding_size=16, image_hw=image_hw)
        assert backbone.fc.in_features == 512 * positions
        assert backbone(torch.zeros(2, 3, *image_hw)).shape == (2, 16)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = iresnet18(embedding_size=16, image_hw=(32, 32), dropout=0.9)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(backbone(images), backbone(images))
        backbone.eval()
        assert torch.equal(backbone(images), backbone(images))


@pytest.mark.parametrize("name", ["iresnet18", "iresnet50", "ir_18"])
def test_untrained_networks_give_embeddings_of_ordinary_size_in_evaluation(name: str) -> None:
    """With running variances of 1, iresnet50 ends near 1e26, and squaring that overflows."""
    torch.manual_seed(0)
    backbone = BACKBONES.entry(name).load()(embedding_size=32, image_hw=(48, 48)).eval()
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    with torch.no_grad():
        assert 0.2 < backbone(images).std() < 5.0
        ones = {n: torch.ones_like(t) for n, t in backbone.state_dict().items() if n.endswith("running_var")}
        backbone.load_state_dict({**backbone.state_dict(), **ones})
        assert backbone(images).std() > 20.0


def test_expected_running_variances_are_near_those_of_a_batch() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES.entry("iresnet18").load()(embedding_size=256, image_hw=(48, 48))
    expected = {n: t.clone() for n, t in backbone.state_dict().items() if n.endswith("running_var")}
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        backbone(torch.rand(32, 3, 48, 48) * 2 - 1)
    measured = backbone.state_dict()
    ratios = {name: float(measured[name].mean() / tensor.mean()) for name, tensor in expected.items()}
    assert min(ratios.values()) > 0.5, ratios
    assert max(ratios.values()) < 2.0, ratios
