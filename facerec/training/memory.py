"""How much memory a training takes, and what to lower where there is too little."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from facerec.config.schema import Config
from facerec.errors import TrainingError

__all__ = ["explained_memory_errors", "is_out_of_memory", "peak_memory", "smaller_parts"]

_GIB = 2**30
_CPU_ALLOCATOR = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


def peak_memory(device: torch.device) -> int:
    """The most memory that was in use so far, in bytes: that of torch on CUDA, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on CUDA or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or bool(_CPU_ALLOCATOR.search(str(error)))


def smaller_parts(batch_size: int, parts: int) -> int | None:
    """The next larger number of equal parts of a batch, at least twice as many; null if a part is two pictures."""
    return next((more for more in range(2 * parts, batch_size // 2 + 1) if batch_size % more == 0), None)


@contextmanager
def explained_memory_errors(config: Config, device: torch.device, *, static_bytes: int) -> Iterator[None]:
    """Say what to lower, and by how much, where the block runs out of memory.

    ``static_bytes`` is what weights, gradients and the optimiser take, whatever the batch.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(_advice(config, device, static_bytes)) from error


def _advice(config: Config, device: torch.device, static_bytes: int) -> str:
    batch, parts = config.data.batch_size, config.training.accumulation_steps
    lines = [f"out of memory on {device} with {batch // parts} pictures at a time"]
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        free, _ = torch.cuda.mem_get_info(device)
        others = max(0, total - free - torch.cuda.memory_reserved(device))
        left = max(0, total - others - static_bytes)
        lines.append(
            f"of {total / _GIB:.1f} GiB, weights and optimiser take {static_bytes / _GIB:.1f}, other processes "
            f"{others / _GIB:.1f}, and the {left / _GIB:.1f} that are left were not enough for the activations"
        )
    else:
        lines.append(f"weights and optimiser take {static_bytes / _GIB:.1f} GiB")
    more = smaller_parts(batch, parts)
    ways = [] if config.model.grad_checkpointing else ["model.grad_checkpointing: true"]
    if more:
        ways.insert(0, f"training.accumulation_steps: {more} ({batch // more} pictures at a time, the same training)")
    ways.append(f"data.batch_size: {max(2, batch // 2)}")
    return f"{'; '.join(lines)}; set {', or '.join(ways)}"
