"""FastContextFace: names, the channel normalisation, and why the gate comes before the layer scale."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facerec.errors import ModelError
from facerec.models.backbones.fastcontextface import FastContextFace, convert_late_gate, fastcontextface

_HW = (32, 32)


class LateGateBlock(nn.Module):
    """The block as it was: the gate looks at what the layer scale has made tiny."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial_mix = nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pwconv1 = nn.Conv2d(width, 3 * width, 1)
        self.pwconv2 = nn.Conv2d(3 * width, width, 1)
        self.attn = nn.Module()
        self.attn.fc = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.ReLU(),
            nn.Linear(width // 4, width, bias=False),
            nn.Sigmoid(),
        )
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(self.spatial_mix(x)))))
        y = self.gamma * y
        pooled = F.adaptive_avg_pool2d(y, 1).flatten(1)
        return x + y * self.attn.fc(pooled)[:, :, None, None]


def with_late_gates(backbone: FastContextFace) -> FastContextFace:
    """The same weights in a network of the old blocks."""
    old = fastcontextface(embedding_size=backbone.embedding_size, image_hw=backbone.image_hw)
    for stage in old.stages:
        for i, block in enumerate(stage):
            stage[i] = LateGateBlock(block.gamma.shape[0])
    old.load_state_dict(backbone.state_dict())
    return old.train(backbone.training)


def trained_like() -> FastContextFace:
    """Layer scales, statistics and weights far from their initial values."""
    torch.manual_seed(0)
    backbone = fastcontextface(embedding_size=16, image_hw=_HW).double()
    for name, tensor in backbone.state_dict().items():
        if name.endswith("gamma"):
            tensor.normal_(0.0, 0.5)
        elif "running_mean" in name:
            tensor.normal_(0.0, 0.1)
        elif "running_var" in name:
            tensor.uniform_(0.5, 2.0)
        elif "attn" in name:
            tensor.normal_()
    return backbone.eval()


def test_parameter_names_are_those_of_existing_weights() -> None:
    with torch.device("meta"):
        backbone = fastcontextface(embedding_size=512, image_hw=(112, 112))
    both = ("weight", "bias")
    expected = {f"{layer}.{part}" for layer, part in itertools.product(("norm", "bn_gdc", "fc", "bn_fc"), both)}
    expected |= {f"downsample_layers.{i}.{j}.{part}" for i in range(4) for j in range(2) for part in both}
    for stage, depth in enumerate((2, 2, 6, 2)):
        for block in range(depth):
            at = f"stages.{stage}.{block}"
            expected |= {f"{at}.{layer}.{part}" for layer in ("norm", "pwconv1", "pwconv2") for part in both}
            expected |= {f"{at}.spatial_mix.weight", f"{at}.attn.fc.0.weight", f"{at}.attn.fc.2.weight", f"{at}.gamma"}
    assert {name for name, _ in backbone.named_parameters()} == expected | {"gdc.weight"}
    assert backbone.gdc.weight.shape == (384, 1, 7, 7)


def test_channel_normalisation_normalises_each_pixel() -> None:
    torch.manual_seed(0)
    norm = fastcontextface(embedding_size=16, image_hw=_HW).downsample_layers[1][0]
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 48, 5, 7)
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x.contiguous(memory_format=torch.channels_last)), expected)


def gate_to_neighbour(backbone: FastContextFace) -> list[float]:
    """Per block, the gradient of the gate's weights relative to that of the 1x1 convolution before it."""
    torch.manual_seed(1)
    (backbone(torch.rand(8, 3, *_HW)) * torch.randn(8, 16)).sum().backward()
    ratios = []
    for block in itertools.chain(*backbone.stages):
        gate = max(float(block.attn.fc[i].weight.grad.norm()) for i in (0, 2))
        ratios.append(gate / float(block.pwconv2.weight.grad.norm()))
    return ratios


def test_gate_learns_from_the_start_and_would_not_behind_the_layer_scale() -> None:
    torch.manual_seed(0)
    backbone = fastcontextface(embedding_size=16, image_hw=_HW, dropout=0.0)
    late = with_late_gates(backbone)
    late.dropout.p = 0.0
    alive, dead = gate_to_neighbour(backbone), gate_to_neighbour(late)
    # The late gate sees the layer scale of 1e-6 once more than its neighbour does.
    assert max(dead) < 1e-8
    assert min(alive) > 1e-6
    assert all(ours > 1e5 * theirs for ours, theirs in zip(alive, dead, strict=True))


def test_gate_tells_channels_apart_from_the_start_and_would_not_behind_the_layer_scale() -> None:
    torch.manual_seed(0)
    backbone = fastcontextface(embedding_size=16, image_hw=_HW)

    def spread(network: FastContextFace) -> float:
        seen: list[Tensor] = []
        hook = network.stages[0][0].attn.fc.register_forward_hook(lambda *call: seen.append(call[2]))
        with torch.no_grad():
            network(torch.rand(8, 3, *_HW))
        hook.remove()
        return float((seen[0] - 0.5).abs().max())

    assert spread(backbone) > 1e3 * spread(with_late_gates(backbone))
    assert spread(with_late_gates(backbone)) < 1e-7


def test_weights_of_late_gates_convert_exactly() -> None:
    backbone = trained_like()
    late = with_late_gates(backbone).double().eval()
    images = torch.rand(3, 3, *_HW, dtype=torch.float64)
    with torch.no_grad():
        expected = late(images)
        assert (backbone(images) - expected).abs().max() > 1e-5  # unconverted, the weights mean something else
        backbone.load_state_dict(convert_late_gate(late.state_dict()))
        torch.testing.assert_close(backbone(images), expected, rtol=1e-10, atol=1e-10)


def test_conversion_changes_the_gates_first_layer_alone_and_leaves_its_input() -> None:
    state = trained_like().state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    converted = convert_late_gate(state)
    changed = {name for name in state if not torch.equal(converted[name], state[name])}
    assert changed == {name for name in state if name.endswith("attn.fc.0.weight")}
    assert all(torch.equal(state[name], kept[name]) for name in state)


@pytest.mark.parametrize(("image_hw", "kernel_hw"), [((112, 96), (7, 6)), ((64, 64), (4, 4)), ((111, 17), (7, 1))])
def test_last_convolution_covers_the_whole_map(image_hw: tuple[int, int], kernel_hw: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = fastcontextface(embedding_size=8, image_hw=image_hw)
        assert backbone.gdc.kernel_size == kernel_hw
        assert backbone(torch.zeros(2, 3, *image_hw)).shape == (2, 8)


def test_images_too_small_for_the_strides_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 16 pixels"):
        fastcontextface(embedding_size=8, image_hw=(112, 14))
