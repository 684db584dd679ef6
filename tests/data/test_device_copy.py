"""Batches on their way to the device: passed on by a CPU, copied beside the computation on CUDA."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from facerec.data.device_copy import Batch, copy_to_device
from facerec.data.loader import build_train_loader
from facerec.errors import DataError
from tests.data.test_loader import configure, write_pack


def batch(number: int) -> Batch:
    return Batch(torch.full((2, 3, 4, 4), number, dtype=torch.uint8), torch.tensor([number, 0]), torch.tensor([1, 2]))


def test_a_cpu_gets_the_very_batches():
    made = [batch(number) for number in range(3)]
    assert all(one is other for one, other in zip(copy_to_device(iter(made), torch.device("cpu")), made, strict=True))


class Recorded:
    """Stands for a tensor; writes down on which stream it is copied and which stream is told to hold it."""

    def __init__(self, name: str, log: list[str], streams: list[str]) -> None:
        self.name, self.log, self.streams = name, log, streams

    def to(self, device: torch.device, *, non_blocking: bool) -> Recorded:
        assert non_blocking
        self.log.append(f"copy {self.name} to {device} on {self.streams[-1]}")
        return Recorded(f"{self.name}'", self.log, self.streams)

    def record_stream(self, stream: Any) -> None:
        self.log.append(f"{stream.name} holds {self.name}")


class FakeStream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


def test_copies_run_on_a_stream_of_their_own_that_the_computation_waits_for(monkeypatch):
    log: list[str] = []
    streams = ["computing"]

    @contextmanager
    def on_stream(stream):
        streams.append(stream.name)
        yield
        streams.pop()

    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(streams[-1], log))
    keys = torch.tensor([7])
    made = Batch(Recorded("images", log, streams), Recorded("labels", log, streams), keys)
    copying: Any = FakeStream("copying", log)
    (copied,) = copy_to_device(iter([made]), torch.device("cuda", 0), copying)
    assert (copied.images_BCHW.name, copied.labels_B.name) == ("images'", "labels'")
    assert copied.keys_B is keys
    assert log == [
        "copy images to cuda:0 on copying",
        "copy labels to cuda:0 on copying",
        "computing waits for copying",
        "computing holds images'",
        "computing holds labels'",
    ]


def test_all_epochs_are_copied_by_one_stream(tmp_path, monkeypatch):
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or FakeStream("copying", []))
    config = configure(write_pack(tmp_path / "pack"), num_workers=0)
    with build_train_loader(config, device=torch.device("cuda", 0)) as loader:
        loader.epoch(0)
        loader.epoch(1)
    assert made == [torch.device("cuda", 0)]
    with build_train_loader(config) as loader:
        loader.epoch(0)
    assert len(made) == 1


def test_an_error_of_the_loader_comes_after_the_batches_before_it():
    def failing():
        yield batch(1)
        raise DataError("damaged")

    batches = copy_to_device(failing(), torch.device("cpu"))
    assert next(batches).labels_B[0] == 1
    with pytest.raises(DataError, match="damaged"):
        next(batches)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_cuda_gets_the_same_batches(tmp_path):
    config = configure(write_pack(tmp_path / "pack"), num_workers=2)
    with build_train_loader(config) as plain, build_train_loader(config, device=torch.device("cuda", 0)) as copying:
        for left, right in zip(plain.epoch(0), copying.epoch(0), strict=True):
            assert right.images_BCHW.is_cuda
            assert right.labels_B.is_cuda
            assert torch.equal(left.images_BCHW, right.images_BCHW.cpu())
            assert torch.equal(left.labels_B, right.labels_B.cpu())
            assert torch.equal(left.keys_B, right.keys_B)
