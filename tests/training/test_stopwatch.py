"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from facerec.training.stopwatch import Stopwatch


def test_waiting_and_steps_are_told_apart() -> None:
    def slow(count: int) -> Iterator[int]:
        for number in range(count):
            time.sleep(0.02)
            yield number

    stopwatch = Stopwatch(torch.device("cpu"))
    stopwatch.restart()
    for _ in stopwatch.timed(slow(5)):
        with stopwatch.step():
            time.sleep(0.06)
    rates = stopwatch.lap(50)
    # A busy machine lengthens every pause; their shares stay near what was asked for.
    assert 0.1 < rates.data_wait_fraction < 0.5
    assert rates.data_wait_fraction <= rates.outside_step_fraction < 0.6
    assert 0.0 < rates.images_per_s < 50 / 0.4


def test_steps_alone_leave_next_to_nothing_outside() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.step():
        time.sleep(0.2)
    rates = stopwatch.lap(1)
    assert rates.data_wait_fraction == 0.0
    assert rates.outside_step_fraction < 0.1
    assert stopwatch.lap(0).outside_step_fraction == pytest.approx(1.0)


def test_the_time_between_two_laps_counts_in_the_second() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.step():
        time.sleep(0.1)
    assert stopwatch.lap(1).outside_step_fraction < 0.2
    time.sleep(0.1)  # What the loop does with the numbers of a window: telling, logging.
    with stopwatch.step():
        time.sleep(0.1)
    assert 0.3 < stopwatch.lap(1).outside_step_fraction < 0.7
