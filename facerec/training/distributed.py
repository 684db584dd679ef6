"""One process among several: who it is, and what the processes tell each other.

``python -m torch.distributed.run --nproc-per-node N -m facerec train …`` and ``facerec train --nproc N`` start the
processes. Without either there is one, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from facerec.errors import DeviceError, UsageError
from facerec.models.device import resolve_device
from facerec.training.interrupt import TrainingInterrupted

__all__ = ["World", "is_first_process", "join_world"]


@dataclass(frozen=True, kw_only=True)
class World:
    """This process and the others; the same calls in the same order are due on all of them."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine, from 0."""
    restarts: int = 0
    """How often the launcher has started these processes again."""
    host_group: Any = None
    """Group whose collectives take tensors of the CPU and never wait for a GPU; null for the default group."""

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this process where ``name`` is what the configuration says; see `resolve_device`.

        Raises:
            DeviceError: there is none, or the machine has fewer GPUs than processes.
        """
        device = resolve_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise DeviceError(f"device {name} is one GPU for {self.size} processes; use --device cuda or auto")
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise DeviceError(
                f"process {self.local_rank} of this machine has no GPU of its own: torch sees {count}; "
                f"start at most {count} processes per machine, or use --device cpu"
            )
        return torch.device("cuda", self.local_rank)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes; ``values`` itself where there is one."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def take_buffers_of_main(self, module: nn.Module) -> None:
        """Give every process the buffers of rank 0's copy of a module."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            value = buffer.contiguous()
            dist.broadcast(value, src=0)
            buffer.copy_(value)

    def largest(self, value: int) -> int:
        """The largest of the integers that the processes give; it waits for no GPU."""
        if self.size == 1:
            return value
        found = torch.tensor([value])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.host_group)
        return int(found.item())

    def gather_texts(self, text: str) -> list[str]:
        """The texts of all processes, by rank."""
        if self.size == 1:
            return [text]
        rows = self.gather_rows(np.frombuffer(text.encode(), dtype=np.uint8))
        return [row.tobytes().decode() for row in rows]

    def text_of_main(self, text: str) -> str:
        """The text of rank 0, on every rank."""
        return self.gather_texts(text if self.is_main else "")[0]

    def gather_rows(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """The arrays of all processes, by rank; they may differ in length, not in the shape of a row or the dtype."""
        if self.size == 1:
            return [rows]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(rows)]), group=self.host_group)
        longest = max(int(length) for length in lengths)
        padded = np.zeros((longest, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        found = [torch.empty(padded.shape, dtype=torch.from_numpy(padded).dtype) for _ in range(self.size)]
        dist.all_gather(found, torch.from_numpy(padded), group=self.host_group)
        return [part.numpy()[: int(length)] for part, length in zip(found, lengths, strict=True)]


@contextmanager
def join_world(device_name: str) -> Iterator[World]:
    """Meet the other processes that a launcher has started, for the length of the block.

    GPUs talk by NCCL, CPUs by gloo.

    Raises:
        DeviceError: this process has no device; see `World.device`.
        UsageError: the launcher's variables contradict each other.
    """
    world = _from_environment()
    if world.size == 1:
        yield world
        return
    device = world.device(device_name)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=_store(world),
        rank=world.rank,
        world_size=world.size,
        device_id=device if on_cuda else None,
    )
    try:
        yield replace(world, host_group=dist.new_group(backend="gloo") if on_cuda else None)
    except TrainingInterrupted:
        dist.destroy_process_group()
        raise
    # Not after another error: the other processes may be gone, and this would wait for them.
    dist.destroy_process_group()


def _store(world: World) -> dist.Store:
    # A launcher may keep its store while it starts the processes again. Under a name of its own each start finds no
    # addresses of processes that are gone.
    store, _, _ = next(dist.rendezvous("env://", rank=world.rank, world_size=world.size))
    return dist.PrefixStore(f"facerec/start-{world.restarts}-of-{world.size}", store)


def is_first_process() -> bool:
    """Whether this process is the one that reports, as far as the launcher's variables tell."""
    return _from_environment().is_main


def _from_environment() -> World:
    variables = os.environ
    if "RANK" not in variables:
        return World()
    try:
        world = World(
            rank=int(variables["RANK"]),
            size=int(variables.get("WORLD_SIZE", "1")),
            local_rank=int(variables.get("LOCAL_RANK", variables["RANK"])),
            restarts=int(variables.get("TORCHELASTIC_RESTART_COUNT", "0")),
        )
    except ValueError as error:
        raise UsageError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers ({error}); "
            "start the processes with python -m torch.distributed.run"
        ) from error
    if not 0 <= world.rank < world.size:
        raise UsageError(
            f"RANK={world.rank} is not below WORLD_SIZE={world.size}; "
            "start the processes with python -m torch.distributed.run, or unset both"
        )
    return world
