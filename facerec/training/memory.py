"""How much memory a training takes, and what to lower where there is too little."""

from __future__ import annotations

import math
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from facerec.config.schema import Config
from facerec.errors import TrainingError
from facerec.models.fused import DEFAULT_CHUNK_MIB

__all__ = ["explained_memory_errors", "head_advice", "is_out_of_memory", "peak_memory", "smaller_parts"]

_GIB = 2**30
_LOGIT_COPIES = 3
"""Tensors of the size of all logits that the plain loss holds at its peak: `benchmarks/head.py` measures it."""
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


def head_advice(config: Config, *, num_centres: int) -> list[str]:
    """What would spare memory of the loss, as settings with a reason; none where a chunk of the fused loss takes more.

    ``num_centres`` counts those of all processes, which share the logits.
    """
    head, pictures = config.head, config.data.batch_size // config.training.accumulation_steps
    logits_bytes = 4 * pictures * math.ceil(head.sample_rate * num_centres)
    if head.loss == "fused" or _LOGIT_COPIES * logits_bytes <= DEFAULT_CHUNK_MIB * 2**20:
        return []
    taken = f"{_LOGIT_COPIES * logits_bytes / _GIB:.1f} GiB"
    ways = [f"head.loss: fused (without the {taken} of logits, the same training)"]
    if head.sample_rate == 1.0:
        ways.append("head.sample_rate: 0.1 (a tenth of the classes in each batch)")
    return ways


@contextmanager
def explained_memory_errors(
    config: Config, device: torch.device, *, static_bytes: int, num_centres: int
) -> Iterator[None]:
    """Say what to lower, and by how much, where the block runs out of memory.

    ``static_bytes`` is what weights, gradients and the optimiser take, whatever the batch; ``num_centres`` counts the
    class centres of all processes.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(_advice(config, device, static_bytes, num_centres)) from error


def _advice(config: Config, device: torch.device, static_bytes: int, num_centres: int) -> str:
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
    ways = head_advice(config, num_centres=num_centres)
    if more:
        ways.append(f"training.accumulation_steps: {more} ({batch // more} pictures at a time, the same training)")
    if not config.model.grad_checkpointing:
        ways.append("model.grad_checkpointing: true")
    ways.append(f"data.batch_size: {max(2, batch // 2)}")
    return f"{'; '.join(lines)}; set {', or '.join(ways)}"
