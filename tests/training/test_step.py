"""One update: what it computes, and that a number that is not finite never reaches the weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from facerec.models.build import FaceModel
from facerec.models.device import Precision
from facerec.training.step import RunningMeans, TrainStep

CPU = torch.device("cpu")


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor) -> Tensor:
        return embeddings_BD @ self.weight.T


def make_step(*, clip: float = 0.0, fused: bool = False) -> tuple[TrainStep, nn.ModuleDict]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    parts = nn.ModuleDict({"backbone": backbone, "head": _Head()})
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1, momentum=0.9, fused=fused)
    model = cast(FaceModel, SimpleNamespace(backbone=backbone, head=parts["head"]))
    step = TrainStep(model, optimizer, precision=Precision(dtype=None), grad_clip_norm=clip, device=CPU)
    return step, parts


def weights(parts: nn.ModuleDict) -> list[Tensor]:
    return [weight.detach().clone() for weight in parts.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8, generator=generator), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_an_update_is_that_of_sgd_on_the_clipped_gradient(clip: float) -> None:
    step, parts = make_step(clip=clip)
    before = weights(parts)
    images, labels = batch()
    inputs = images.float() / 127.5 - 1.0
    logits = parts["head"](parts["backbone"](inputs), labels)
    loss = -torch.log_softmax(logits, dim=1)[torch.arange(5), labels].mean()
    gradients = torch.autograd.grad(loss, list(parts.parameters()))
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    factor = min(1.0, clip / norm.item()) if clip else 1.0
    found, found_logits = step(images, labels, step=0)
    assert found.item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(found_logits, logits)
    if clip:
        assert factor < 1.0
    for old, new, gradient in zip(before, weights(parts), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.1 * factor * gradient, rtol=1e-4, atol=1e-6)
    assert not step.is_broken()
    assert step.first_broken_step == -1


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_broken_step_leaves_the_weights_and_is_named(clip: float) -> None:
    step, parts = make_step(clip=clip)
    step(*batch(), step=6)
    with torch.no_grad():
        parts["head"].weight[0, 0] = float("inf")
    before = weights(parts)
    step(*batch(), step=7)
    step(*batch(), step=8)
    assert step.is_broken()
    assert step.first_broken_step == 7
    assert same(weights(parts), before)


def test_a_fused_optimiser_leaves_out_an_update_that_found_inf_flags() -> None:
    # The contract of torch that the step relies on where asking the device would cost time.
    weight = nn.Parameter(torch.ones(4))
    optimizer: Any = torch.optim.SGD([weight], lr=0.1, fused=True)
    weight.grad = torch.full((4,), float("nan"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(4))
    weight.grad = torch.ones(4)
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4,), 0.9))


def test_the_path_of_cuda_skips_the_broken_update_and_all_later_ones() -> None:
    step, parts = make_step(fused=True)
    step(*batch(), step=0)
    step.device = torch.device("cuda")  # Only the choice of the path; every tensor stays on the CPU.
    before = weights(parts)
    for weight in parts.parameters():
        weight.grad = torch.full_like(weight, float("nan"))
    step._update(torch.tensor(1.0), 1)
    for weight in parts.parameters():
        weight.grad = torch.ones_like(weight)
    step._update(torch.tensor(1.0), 2)
    assert same(weights(parts), before)
    assert step.first_broken_step == 1


def test_the_path_of_cuda_updates_while_all_is_finite() -> None:
    step, parts = make_step(fused=True)
    step.device = torch.device("cuda")
    before = weights(parts)
    for weight in parts.parameters():
        weight.grad = torch.ones_like(weight)
    step._update(torch.tensor(1.0), 0)
    for old, new in zip(before, weights(parts), strict=True):
        torch.testing.assert_close(new, old - 0.1)


def test_running_means_weigh_batches_by_their_pictures() -> None:
    means = RunningMeans(CPU)
    means.add(torch.tensor(2.0), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
    means.add(torch.tensor(6.0), torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    window = means.read()
    assert window.loss == pytest.approx((3 * 2.0 + 6.0) / 4)
    assert window.accuracy == pytest.approx(3 / 4)
    assert window.images == 4


def test_running_means_go_on_from_their_state_and_can_start_again() -> None:
    means, other = RunningMeans(CPU), RunningMeans(CPU)
    means.add(torch.tensor(0.1), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    other.restore(means.state())
    for sums in (means, other):
        sums.add(torch.tensor(0.7), torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert other.read() == means.read()
    means.clear()
    assert means.state() == [0.0, 0.0, 0]
    assert means.read().loss == 0.0
