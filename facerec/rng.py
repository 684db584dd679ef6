"""Randomness that can be repeated.

Orders and augmentations are drawn from counters (seed, epoch, index), never from a running generator, so they do not
depend on the number of workers or on where a training was interrupted. What torch draws while it trains (dropout) does
run on, and is captured and restored as plain data.
"""

from __future__ import annotations

import base64
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["capture_rng", "counter_generator", "counter_uniform", "epoch_permutation", "restore_rng", "seed_everything"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def counter_uniform(
    seed: int, epoch: int, indices: NDArray[np.integer[Any]], *, stream: int, draws: int = 1
) -> NDArray[np.float64]:
    """Draw uniform numbers that depend on (seed, epoch, index, stream) alone.

    Shape: ``indices`` (B,); result (B, draws), float64 in [0, 1).
    ``stream`` separates uses of the same index, such as the flip and the colour jitter of one picture.
    """
    with np.errstate(over="ignore"):
        base = _mix(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)
        base = _mix((base ^ np.uint64(epoch)) + _GOLDEN)
        base = _mix((base ^ np.uint64(stream)) + _GOLDEN)
        per_index = _mix((base ^ np.asarray(indices).astype(np.uint64)) + _GOLDEN)
        steps = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(per_index[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def counter_generator(*counters: int) -> np.random.Generator:
    """A numpy generator whose stream depends on the given integers alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([value % 2**64 for value in counters])))


def epoch_permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The order of ``size`` items in ``epoch``; int64, (size,)."""
    return counter_generator(seed, epoch).permutation(size).astype(np.int64, copy=False)


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch (all devices)."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still read the global generator
    torch.manual_seed(seed % 2**64)


def capture_rng() -> dict[str, Any]:
    """The state of the generators of Python, numpy and torch as plain data (JSON can hold it)."""
    import torch

    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(numpy_state, dict)
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": {
            "key": [int(word) for word in numpy_state["state"]["key"]],
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": _encode(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        state["cuda"] = [_encode(device_state) for device_state in torch.cuda.get_rng_state_all()]
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Set the generators to a state that `capture_rng` returned.

    CUDA states are set for as many devices as both the state and this machine have.
    """
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (
            "MT19937",
            np.array(numpy_state["key"], dtype=np.uint32),
            numpy_state["pos"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        )
    )
    torch.set_rng_state(_decode(state["torch"]))
    if torch.cuda.is_available():
        for device, text in zip(range(torch.cuda.device_count()), state.get("cuda", []), strict=False):
            torch.cuda.set_rng_state(_decode(text), device)


def _encode(state: Any) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _decode(text: str) -> Any:
    import torch

    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
