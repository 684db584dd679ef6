"""What the processes of a training tell each other, as one of them sees it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facerec.config.schema import Config
from facerec.errors import CheckpointError, MissingPathError
from facerec.training.distributed import World
from facerec.training.opening import open_session
from tests.training.conftest import RecordingTracker


def test_buffers_become_those_of_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    main, own = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    main(torch.randn(8, 4))
    own(torch.randn(8, 4) + 3.0)
    sent = iter(list(main.buffers()))

    def broadcast(tensor: Tensor, *, src: int) -> None:
        assert src == 0
        assert tensor.is_contiguous()
        tensor.copy_(next(sent))

    monkeypatch.setattr("torch.distributed.broadcast", broadcast)
    World(rank=1, size=2).take_buffers_of_main(own)
    assert next(sent, None) is None
    for name, value in main.named_buffers():
        assert torch.equal(own.get_buffer(name), value)


def test_one_process_asks_nobody() -> None:
    layer = nn.BatchNorm1d(4)
    World().take_buffers_of_main(layer)
    assert torch.equal(layer.running_mean, torch.zeros(4))


def test_every_process_hears_that_there_is_no_run_to_resume(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(training__resume=True)
    texts: list[str] = []

    def told(world: World, text: str) -> str:
        texts.append(text)
        return texts[0]

    monkeypatch.setattr(World, "text_of_main", told)
    with pytest.raises(MissingPathError, match="no run to resume"):
        open_session(config, RecordingTracker(), world=World(rank=0, size=2))
    with pytest.raises(CheckpointError, match="no run to resume"):
        open_session(config, RecordingTracker(), world=World(rank=1, size=2))
    assert json.loads(texts[1]) == ["", ""]
