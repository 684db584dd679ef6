"""Out of memory: what to lower, and by how much."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from facerec.config.schema import Config
from facerec.errors import TrainingError
from facerec.training.memory import explained_memory_errors, head_advice, peak_memory, smaller_parts

CPU = torch.device("cpu")
MakeConfig = Callable[..., Config]


@pytest.mark.parametrize(
    ("batch", "parts", "expected"),
    [(128, 1, 2), (128, 2, 4), (12, 2, 4), (12, 4, None), (9, 1, 3), (2, 1, None), (7, 1, None)],
)
def test_the_next_division_of_a_batch_is_into_equal_parts_of_two_or_more(
    batch: int, parts: int, expected: int | None
) -> None:
    assert smaller_parts(batch, parts) == expected


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 9 bytes"
        ),
    ],
)
def test_running_out_of_memory_says_what_to_lower(make_config: MakeConfig, error: Exception) -> None:
    with (
        pytest.raises(TrainingError, match=r"with 16 pictures at a time.*take 3\.0 GiB") as caught,
        explained_memory_errors(make_config(), CPU, static_bytes=3 * 2**30, num_centres=8),
    ):
        raise error
    message = str(caught.value)
    assert "training.accumulation_steps: 2 (8 pictures at a time, the same training)" in message
    assert "data.batch_size: 8" in message
    assert "model.grad_checkpointing: true" in message


def test_what_is_done_already_is_not_advised(make_config: MakeConfig) -> None:
    config = make_config(model__grad_checkpointing=True)
    with (
        pytest.raises(TrainingError) as caught,
        explained_memory_errors(config, CPU, static_bytes=0, num_centres=8),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "grad_checkpointing" not in str(caught.value)


def test_logits_that_take_more_than_a_chunk_are_named(make_config: MakeConfig) -> None:
    classes = 2**21  # With 16 pictures 128 MiB of logits, three times of that at the peak.
    with (
        pytest.raises(TrainingError) as caught,
        explained_memory_errors(make_config(), CPU, static_bytes=0, num_centres=classes),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "set head.loss: fused (without the 0.4 GiB of logits, the same training), or head.sample_rate: 0.1" in str(
        caught.value
    )
    assert head_advice(make_config(), num_centres=classes // 2) == []
    assert head_advice(make_config(head__loss="fused"), num_centres=classes) == []
    assert len(head_advice(make_config(head__sample_rate=0.9), num_centres=classes)) == 1
    assert head_advice(make_config(training__accumulation_steps=2), num_centres=classes) == []


def test_other_errors_stay_what_they_are(make_config: MakeConfig) -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explained_memory_errors(make_config(), CPU, static_bytes=0, num_centres=8),
    ):
        raise RuntimeError("shapes differ")


def test_the_peak_of_the_process_is_at_least_what_it_holds() -> None:
    block = torch.ones(2**23)
    assert peak_memory(CPU) >= block.numel() * 4
