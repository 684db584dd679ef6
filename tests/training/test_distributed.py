"""What the processes of a training tell each other, as one of them sees it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facerec.training.distributed import World


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
