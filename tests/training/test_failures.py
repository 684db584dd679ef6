"""The sentence on a loss that is not finite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from facerec.training.distributed import World
from facerec.training.failures import not_finite


def session(*, first_broken: int, known: list[tuple[int, list[int]]]) -> Any:
    step = SimpleNamespace(first_broken_step=first_broken, scaler=SimpleNamespace(is_enabled=lambda: False))
    loader = SimpleNamespace(name_of=str)
    return SimpleNamespace(step=step, recent_keys=known, global_step=90, epoch=0, loader=loader, world=World())


@pytest.mark.parametrize(("known", "records"), [([(12, [5, 6]), (13, [7])], "5, 6"), ([(80, [5])], "unknown")])
def test_the_first_broken_step_is_named_with_its_records(known: list[tuple[int, list[int]]], records: str) -> None:
    sentence = str(not_finite(session(first_broken=12, known=known), 0.1))
    assert f"not finite at step 12 (epoch 1, learning rate 0.1, records {records})" in sentence
