"""The learning rate as a function of the step, and the optimisers."""

from __future__ import annotations

import pytest
import torch

from facerec.config.schema import TrainingConfig
from facerec.training.optim import build_optimizer, learning_rate, set_learning_rate


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
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    weight = torch.nn.Parameter(torch.zeros(1))
    config = TrainingConfig(optimizer=name, lr=0.3, weight_decay=0.02)
    optimizer = build_optimizer([weight, frozen], config, device=torch.device("cpu"))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["params"] == [weight]
    assert optimizer.param_groups[0]["weight_decay"] == 0.02
    set_learning_rate(optimizer, 0.7)
    assert optimizer.param_groups[0]["lr"] == 0.7


def test_sgd_takes_momentum_and_nesterov_and_no_nesterov_without_momentum() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))

    def group(config: TrainingConfig) -> dict[str, object]:
        return build_optimizer([weight], config, device=torch.device("cpu")).param_groups[0]

    assert group(TrainingConfig(momentum=0.8))["nesterov"] is True
    assert group(TrainingConfig(momentum=0.8))["momentum"] == 0.8
    assert group(TrainingConfig(nesterov=False))["nesterov"] is False
    assert group(TrainingConfig(momentum=0.0))["nesterov"] is False
