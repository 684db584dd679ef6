"""The quick PReLU gives what torch's own gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facerec.models import prelu
from facerec.models.prelu import PReLU


def run(module: nn.PReLU, images: torch.Tensor, *, autocast: bool = False) -> list[torch.Tensor]:
    """Result, gradient of the input and of the slopes, for a gradient that differs everywhere."""
    module.zero_grad()
    x = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = module(x)
    result.backward(torch.linspace(-1, 1, result.numel()).reshape(result.shape).to(result.dtype))
    assert x.grad is not None
    assert module.weight.grad is not None
    return [result.detach(), x.grad, module.weight.grad]


def images(batch: int = 5, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(batch, 6, 7, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[0, 0, 0] = 0.0
    return x.contiguous(memory_format=torch.channels_last)


def pair(dtype: torch.dtype = torch.float32) -> tuple[PReLU, nn.PReLU]:
    ours, torchs = PReLU(6).to(dtype), nn.PReLU(6).to(dtype)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.25, -0.5, 0.0, 1.0, 2.0, 0.1]))
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("part", [1, 200, 1 << 20])
@pytest.mark.parametrize("channels_last", [True, False])
def test_value_and_gradients_equal_torchs_however_the_batch_is_cut(
    monkeypatch: pytest.MonkeyPatch, part: int, channels_last: bool
) -> None:
    monkeypatch.setattr(prelu, "_PART", part)
    x = images() if channels_last else images().contiguous()
    ours, torchs = pair()
    for mine, other in zip(run(ours, x), run(torchs, x), strict=True):
        torch.testing.assert_close(mine, other)
        assert mine.stride() == other.stride()


def test_under_autocast_it_computes_in_the_type_that_torch_does() -> None:
    ours, torchs = pair()
    for mine, other in zip(run(ours, images(), autocast=True), run(torchs, images(), autocast=True), strict=True):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, rtol=2e-2, atol=2e-2)


def test_its_gradient_is_that_of_finite_differences() -> None:
    ours, _ = pair(torch.float64)
    x = (images(2, dtype=torch.float64) + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(ours, {"weight": w}, (x,)), (x, ours.weight)
    )


def test_a_frozen_slope_leaves_the_gradient_of_the_input() -> None:
    ours, torchs = pair()
    gradients = []
    for module in (ours, torchs):
        module.weight.requires_grad_(False)
        x = images().requires_grad_()
        module(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_the_quick_way_is_taken_in_training_alone() -> None:
    ours, _ = pair()
    assert "QuickBackward" in type(ours(images()).grad_fn).__name__
    with torch.no_grad():
        assert ours(images()).grad_fn is None
    exported = torch.export.export(ours, (images(),))
    assert "prelu" in str(exported.graph)
