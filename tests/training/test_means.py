"""Means over steps."""

from __future__ import annotations

import pytest
import torch

from facerec.models.classification import LossOutput
from facerec.training.means import RunningMeans

CPU = torch.device("cpu")


def output(loss: float, *correct: bool) -> LossOutput:
    return LossOutput(torch.tensor(loss), torch.tensor(correct))


def test_running_means_weigh_batches_by_their_pictures() -> None:
    means = RunningMeans(CPU)
    means.add(output(2.0, True, True, False))
    means.add(output(6.0, True))
    window = means.read()
    assert window.loss == pytest.approx((3 * 2.0 + 6.0) / 4)
    assert window.accuracy == pytest.approx(3 / 4)
    assert window.images == 4


def test_running_means_go_on_from_their_state_and_can_start_again() -> None:
    means, other = RunningMeans(CPU), RunningMeans(CPU)
    means.add(output(0.1, True))
    other.restore(means.state())
    for sums in (means, other):
        sums.add(output(0.7, False))
    assert other.read() == means.read()
    means.clear()
    assert means.state() == [0.0, 0.0, 0.0]
    assert means.read().loss == 0.0
