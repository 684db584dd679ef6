"""One update: what it computes, and that a number that is not finite never reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from facerec.models.classification import ClassificationLoss, LossOutput
from facerec.models.device import Precision
from facerec.models.heads.arcface import ArcFace
from facerec.training.ema import MovingAverage
from facerec.training.step import TrainStep

CPU = torch.device("cpu")


class _Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor, *, step: int = 0) -> LossOutput:
        logits_BC = embeddings_BD @ self.weight.T
        return LossOutput(nn.functional.cross_entropy(logits_BC, labels_B), logits_BC.argmax(dim=1) == labels_B)


def make_step(
    *, clip: float = 0.0, clipped: tuple[str, ...] = ("backbone", "head"), fused: bool = False, **settings: Any
) -> tuple[TrainStep, nn.ModuleDict]:
    torch.manual_seed(0)
    parts = nn.ModuleDict({"backbone": nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "head": _Loss()})
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1, momentum=0.9, fused=fused)
    step = TrainStep(
        parts["backbone"],
        parts["head"],
        optimizer,
        precision=Precision(dtype=None),
        grad_clip_norm=clip,
        clipped_weights=[weight for name in clipped for weight in parts[name].parameters()],
        device=CPU,
        **settings,
    )
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
    logits = parts["backbone"](inputs) @ parts["head"].weight.T
    loss = -torch.log_softmax(logits, dim=1)[torch.arange(5), labels].mean()
    gradients = torch.autograd.grad(loss, list(parts.parameters()))
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    factor = min(1.0, clip / norm.item()) if clip else 1.0
    found = step(images, labels, step=0)
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.equal(found.is_correct_B, logits.argmax(dim=1) == labels)
    if clip:
        assert factor < 1.0
    for old, new, gradient in zip(before, weights(parts), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.1 * factor * gradient, rtol=1e-4, atol=1e-6)
    assert not step.is_broken()
    assert step.first_broken_step == -1


def test_clipping_the_backbone_alone_leaves_the_gradient_of_the_head() -> None:
    plain, expected = make_step()
    clipped, found = make_step(clip=0.05, clipped=("backbone",))
    start = weights(expected)
    plain(*batch(), step=0)
    clipped(*batch(), step=0)
    changes = [after - before for after, before in zip(weights(expected), start, strict=True)]
    norm = 10.0 * torch.sqrt(sum((change**2).sum() for change in changes[:2])).item()
    assert norm > 0.05
    for number, (before, after) in enumerate(zip(start, weights(found), strict=True)):
        factor = 0.05 / norm if number < 2 else 1.0
        torch.testing.assert_close(after, before + factor * changes[number], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("part", ["backbone", "head"])
def test_a_broken_gradient_is_found_whichever_part_is_clipped(part: str) -> None:
    step, parts = make_step(clip=5.0, clipped=("backbone",))
    next(parts[part].parameters()).register_hook(lambda gradient: gradient * math.nan)
    before = weights(parts)
    step(*batch(), step=3)
    assert step.first_broken_step == 3
    assert same(weights(parts), before)


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


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_gradient_that_is_not_finite_is_broken_though_the_loss_is_sound(clip: float) -> None:
    step, parts = make_step(clip=clip)
    step(*batch(), step=6)
    before = weights(parts)
    parts["backbone"][1].weight.register_hook(lambda gradient: gradient * math.nan)
    assert torch.isfinite(step(*batch(), step=7).loss)
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


def test_a_float16_gradient_that_overflows_at_any_scale_is_broken() -> None:
    step, parts = make_step()
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-23)
    parts["head"].weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights(parts)
    step(*batch(), step=0)
    assert not step.is_broken()
    step(*batch(), step=1)
    assert step.is_broken()
    assert same(weights(parts), before)


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


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_batch_in_parts_gives_the_update_of_the_whole(parts: int, clip: float) -> None:
    images = torch.randint(0, 256, (6, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 2, 0, 1, 1])
    whole, expected = make_step(clip=clip)
    divided, found = make_step(clip=clip, accumulation_steps=parts)
    for number in range(3):
        a, b = whole(images, labels, step=number), divided(images, labels, step=number)
        torch.testing.assert_close(a.loss, b.loss)
        assert torch.equal(a.is_correct_B, b.is_correct_B)
    for one, other in zip(weights(expected), weights(found), strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_backbone_stays_while_the_head_learns() -> None:
    step, parts = make_step()
    before = weights(parts)
    step.is_frozen = True
    step(*batch(), step=0)
    frozen = weights(parts)
    assert same(before[:2], frozen[:2])
    assert not same(before[2:], frozen[2:])
    step.is_frozen = False
    step(*batch(), step=1)
    assert not same(frozen[:2], weights(parts)[:2])


def test_the_average_follows_by_its_decay_and_faster_at_the_start() -> None:
    step, parts = make_step()
    average = MovingAverage(parts["backbone"], decay=0.5)
    step.average = average
    expected = [weight.detach().double() for weight in parts["backbone"].parameters()]
    for number in range(8):
        step(*batch(), step=number)
        decay = min(0.5, (1 + number) / (10 + number))
        now = [weight.detach().double() for weight in parts["backbone"].parameters()]
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, now, strict=True)]
    for found, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-7)
    assert not average.module.training


def test_the_average_copies_whatever_is_no_floating_point_number() -> None:
    module = nn.Module()
    module.register_buffer("steps", torch.tensor(0, dtype=torch.int32))
    module.register_buffer("is_ready", torch.tensor(False))
    module.register_buffer("mean", torch.tensor(0.0))
    average = MovingAverage(module, decay=0.5)
    module.steps += 3
    module.is_ready.fill_(True)
    module.mean.fill_(1.0)
    average.update(20)
    assert (int(average.module.steps), bool(average.module.is_ready)) == (3, True)
    assert float(average.module.mean) == pytest.approx(0.5)


def test_the_spread_of_the_embeddings_is_zero_where_all_are_the_same() -> None:
    step, parts = make_step()
    step(*batch(), step=0)
    assert 0.0 < float(step.embedding_spread) <= 1.0
    nn.init.zeros_(parts["backbone"][1].weight)
    step(*batch(), step=1)
    assert float(step.embedding_spread) == pytest.approx(0.0, abs=1e-6)


class _NoWaiting(TorchDispatchMode):
    """Refuses what makes the processor wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"the step waits for the device: {func}")
        return func(*args, **(kwargs or {}))


@contextmanager
def as_on_cuda(step: TrainStep) -> Iterator[None]:
    """Take the path of CUDA: only the choice of it, every tensor stays on the CPU."""
    step.device = torch.device("cuda")
    with _NoWaiting():
        yield


@pytest.mark.parametrize("parts", [1, 5])
def test_a_step_never_waits_for_the_device(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    # The check of labels is for the CPU alone.
    monkeypatch.setattr("facerec.models.classification.check_labels", lambda *_, **__: None)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    head = ArcFace(embedding_size=4, num_classes=3, scale=8.0)
    loss = ClassificationLoss(head)
    optimizer = torch.optim.SGD([*backbone.parameters(), *loss.parameters()], lr=0.1, fused=True)
    step = TrainStep(
        backbone,
        loss,
        optimizer,
        precision=Precision(dtype=None),
        grad_clip_norm=5.0,
        device=CPU,
        accumulation_steps=parts,
        average=MovingAverage(backbone, decay=0.9),
    )
    before = weights(nn.ModuleDict({"backbone": backbone}))
    with as_on_cuda(step):
        step(*batch(), step=0)
    assert not same(before, weights(nn.ModuleDict({"backbone": backbone})))
    with as_on_cuda(step), pytest.raises(AssertionError, match="waits for the device"):
        step.is_broken()
