"""The learning rate as a function of the step, and the optimisers."""

from __future__ import annotations

import pytest
import torch

from facerec.config.schema import TrainingConfig
from facerec.training.optim import build_optimizer, learning_rate, parameter_groups, rate_scale, set_learning_rate


def rates(config: TrainingConfig, steps_per_epoch: int = 10) -> list[float]:
    steps = config.epochs * steps_per_epoch
    return [learning_rate(config, step=step, steps_per_epoch=steps_per_epoch) for step in range(steps)]


def test_warm_up_rises_linearly_step_by_step_to_the_full_rate() -> None:
    found = rates(TrainingConfig(epochs=4, lr=0.4, warmup_epochs=1.5, scheduler="constant"))
    assert found[:15] == pytest.approx([0.4 * (step + 1) / 15 for step in range(15)])
    assert found[15:] == [0.4] * 25


def test_multistep_falls_at_the_milestones() -> None:
    found = rates(TrainingConfig(epochs=6, lr=1.0, scheduler="multistep", milestones=(2, 4), gamma=0.1))
    assert found == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 20)


@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
def test_schedules_equal_those_of_torch(scheduler: str) -> None:
    config = TrainingConfig(epochs=5, lr=0.2, min_lr=0.01, scheduler=scheduler)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    reference: torch.optim.lr_scheduler.LRScheduler
    if scheduler == "cosine":
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.01)
    else:
        reference = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01 / 0.2, total_iters=50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(config) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimiser_is_the_one_that_the_configuration_names(name: str, kind: type) -> None:
    module = torch.nn.Linear(1, 1)
    module.bias.requires_grad_(False)
    config = TrainingConfig(optimizer=name, lr=0.3, weight_decay=0.02)
    optimizer = build_optimizer(parameter_groups([("backbone", module)], config), config, device=torch.device("cpu"))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["params"] == [module.weight]
    assert optimizer.param_groups[0]["weight_decay"] == 0.02
    set_learning_rate(optimizer, 0.7)
    assert optimizer.param_groups[0]["lr"] == 0.7


def test_sgd_takes_momentum_and_nesterov_and_no_nesterov_without_momentum() -> None:
    def group(config: TrainingConfig) -> dict[str, object]:
        groups = parameter_groups([("head", torch.nn.Linear(1, 1))], config)
        return build_optimizer(groups, config, device=torch.device("cpu")).param_groups[0]

    assert group(TrainingConfig(momentum=0.8))["nesterov"] is True
    assert group(TrainingConfig(momentum=0.8))["momentum"] == 0.8
    assert group(TrainingConfig(nesterov=False))["nesterov"] is False
    assert group(TrainingConfig(momentum=0.0))["nesterov"] is False


def test_polynomial_falls_with_the_power_of_what_is_left() -> None:
    found = rates(TrainingConfig(epochs=2, lr=0.4, min_lr=0.1, scheduler="polynomial", power=3.0))
    assert found == pytest.approx([0.1 + 0.3 * (1 - step / 20) ** 3 for step in range(20)])
    linear = rates(TrainingConfig(epochs=2, lr=0.4, scheduler="linear"))
    assert rates(TrainingConfig(epochs=2, lr=0.4, scheduler="polynomial", power=1.0)) == pytest.approx(linear)


def test_the_rate_grows_with_the_batch_only_where_a_reference_is_named() -> None:
    assert rate_scale(TrainingConfig(), total_batch=4096) == 1.0
    assert rate_scale(TrainingConfig(lr_reference_batch=512), total_batch=1024) == 2.0
    assert rate_scale(TrainingConfig(lr_reference_batch=512), total_batch=128) == 0.25


class _Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.act = torch.nn.PReLU(4)


@pytest.mark.parametrize(
    ("no_decay", "spared"),
    [
        ((), set()),
        (("norm",), {"norm.weight", "norm.bias"}),
        (("bias",), {"conv.bias", "norm.bias"}),
        (("norm", "bias"), {"conv.bias", "norm.weight", "norm.bias"}),
        (("vector",), {"conv.bias", "norm.weight", "norm.bias", "act.weight"}),
    ],
)
def test_decay_spares_what_no_decay_names(no_decay: tuple[str, ...], spared: set[str]) -> None:
    layers = _Layers()
    groups = parameter_groups([("backbone", layers)], TrainingConfig(weight_decay=0.3, no_decay=no_decay))
    names = {weight: name for name, weight in layers.named_parameters()}
    assert {names[weight] for group in groups if group["weight_decay"] == 0.0 for weight in group["params"]} == spared
    assert {group["weight_decay"] for group in groups} <= {0.0, 0.3}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_the_backbone_has_its_own_factor_on_the_rate() -> None:
    backbone, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    config = TrainingConfig(backbone_lr_factor=0.1, no_decay=("bias",))
    groups = parameter_groups([("backbone", backbone), ("head", head)], config)
    optimizer = build_optimizer(groups, config, device=torch.device("cpu"))
    set_learning_rate(optimizer, 0.5)
    rates_of = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert [rates_of[weight] for weight in backbone.parameters()] == pytest.approx([0.05, 0.05])
    assert [rates_of[weight] for weight in head.parameters()] == [0.5, 0.5]


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_first_update_that_is_left_out_does_not_spoil_the_momentum_of_fused_sgd(nesterov: bool) -> None:
    config = TrainingConfig(lr=0.1, momentum=0.9, nesterov=nesterov)

    def train(*, skips_first: bool) -> torch.Tensor:
        module = torch.nn.Linear(64, 64, bias=False)
        torch.nn.init.ones_(module.weight)
        groups = parameter_groups([("backbone", module)], config)
        optimizer = build_optimizer(groups, config, device=torch.device("cpu"))
        assert torch.equal(optimizer.state[module.weight]["momentum_buffer"], torch.zeros(64, 64))
        optimizer.param_groups[0]["fused"] = skips_first
        optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]
        for found_inf in [1.0, 0.0, 0.0] if skips_first else [0.0, 0.0]:
            module.weight.grad = torch.full_like(module.weight, 0.25)
            if skips_first:
                optimizer.found_inf = torch.tensor(found_inf)  # type: ignore[attr-defined]
            optimizer.step()
        return module.weight.detach()

    torch.testing.assert_close(train(skips_first=True), train(skips_first=False))
