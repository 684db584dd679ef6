"""The command with a backbone without batch normalisation, whose result does not depend on the split of a batch.

``FACEREC_TEST_STRIKE=RANK:STEP:SIGNAL`` sends a signal to the process of that rank when it comes to that step, the
first time that the processes are started.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from facerec.models.backbones.base import Backbone
from facerec.registry import BACKBONES

NAME = "plain_for_tests"


class Plain(Backbone):
    """Two linear layers."""

    def __init__(self, *, embedding_size: int, image_hw: tuple[int, int]) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.pool = nn.AvgPool2d(4)
        self.hidden = nn.Linear(3 * (image_hw[0] // 4) * (image_hw[1] // 4), 48)
        self.out = nn.Linear(48, embedding_size)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(self.pool(images_BCHW).flatten(1)))
        result: Tensor = self.out(hidden)
        return result


def register() -> None:
    if NAME not in BACKBONES:
        BACKBONES.add(NAME, "tests.training.plain_backbone:Plain", source="tests")


def strike_at(rank: str, step: int, number: int) -> None:
    from facerec.training.step import TrainStep

    if os.environ["RANK"] != rank or os.environ.get("TORCHELASTIC_RESTART_COUNT") != "0":
        return
    original = TrainStep.__call__

    def call(self: TrainStep, *arguments: Any, **settings: Any) -> Any:
        if settings["step"] == step:
            os.kill(os.getpid(), number)
        return original(self, *arguments, **settings)

    TrainStep.__call__ = call  # type: ignore[method-assign]


if __name__ == "__main__":
    from facerec.cli.main import main

    register()
    if strike := os.environ.get("FACEREC_TEST_STRIKE"):
        strike_at(strike.split(":")[0], *map(int, strike.split(":")[1:]))
    main()
