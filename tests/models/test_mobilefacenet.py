"""MobileFaceNet: the names, widths and initial values of arcface_torch's ``mbf``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facerec.models.backbones.mobilefacenet import mobilefacenet


def shapes() -> dict[str, tuple[int, ...]]:
    """The parameters that a weights file of arcface_torch holds."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(at: str, weight: tuple[int, ...], *, prelu: bool = True) -> None:
        found[f"{at}.layers.0.weight"] = weight
        found[f"{at}.layers.1.weight"] = found[f"{at}.layers.1.bias"] = (weight[0],)
        if prelu:
            found[f"{at}.layers.2.weight"] = (weight[0],)

    def bottleneck(at: str, width_in: int, width: int, inner: int) -> None:
        conv(f"{at}.layers.0", (inner, width_in, 1, 1))
        conv(f"{at}.layers.1", (inner, 1, 3, 3))
        conv(f"{at}.layers.2", (width, inner, 1, 1), prelu=False)

    conv("layers.0", (128, 3, 3, 3))
    conv("layers.1", (128, 2, 3, 3))
    bottleneck("layers.2", 128, 128, 128)
    for i in range(4):
        bottleneck(f"layers.3.layers.{i}", 128, 128, 128)
    bottleneck("layers.4", 128, 256, 256)
    for i in range(6):
        bottleneck(f"layers.5.layers.{i}", 256, 256, 256)
    bottleneck("layers.6", 256, 256, 512)
    for i in range(2):
        bottleneck(f"layers.7.layers.{i}", 256, 256, 256)
    conv("conv_sep", (512, 256, 1, 1))
    conv("features.layers.0", (512, 1, 7, 7), prelu=False)
    found["features.layers.2.weight"] = (512, 512)
    found["features.layers.3.weight"] = found["features.layers.3.bias"] = (512,)
    return found


def test_parameters_have_the_names_and_shapes_of_arcface_torch() -> None:
    with torch.device("meta"):
        backbone = mobilefacenet(embedding_size=512, image_hw=(112, 112))
    assert {name: tuple(parameter.shape) for name, parameter in backbone.named_parameters()} == shapes()


def test_bottlenecks_add_their_input_exactly_where_the_size_stays() -> None:
    """With its last normalisation at zero a bottleneck gives its input back, or nothing."""
    torch.manual_seed(0)
    backbone = mobilefacenet(embedding_size=8, image_hw=(32, 32)).eval()
    narrowing, repeated = backbone.layers[2], backbone.layers[3].layers[0]
    for block in (narrowing, repeated):
        nn.init.zeros_(block.layers[2].layers[1].weight)
    x = torch.randn(1, 128, 8, 8)
    with torch.no_grad():
        assert torch.equal(repeated(x), x)
        assert torch.equal(narrowing(x), torch.zeros(1, 128, 4, 4))


def test_weights_start_from_the_variance_that_keeps_the_backward_pass() -> None:
    torch.manual_seed(0)
    backbone = mobilefacenet(embedding_size=256, image_hw=(112, 112))
    assert float(backbone.conv_sep.layers[0].weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert float(backbone.features.layers[2].weight.detach().std()) == pytest.approx((2 / 256) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("image_hw", "kernel_hw"), [((112, 96), (7, 6)), ((64, 64), (4, 4)), ((17, 16), (2, 1))])
def test_last_convolution_covers_the_whole_map(image_hw: tuple[int, int], kernel_hw: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = mobilefacenet(embedding_size=8, image_hw=image_hw)
        assert backbone.features.layers[0].layers[0].kernel_size == kernel_hw
        assert backbone(torch.zeros(2, 3, *image_hw)).shape == (2, 8)
