"""What stops a training, as a sentence with the usual cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from facerec.config.schema import Config
from facerec.errors import CheckpointError, TrainingError, one_line
from facerec.training.assembly import Parts
from facerec.training.head_parts import num_centres
from facerec.training.memory import explained_memory_errors
from facerec.training.session import Session

__all__ = ["explained_disk", "explained_failures", "not_finite", "not_written"]


@contextmanager
def explained_failures(config: Config, parts: Parts) -> Iterator[None]:
    """Say what to change where the block runs out of memory or cannot compile, and that another process is gone.

    Raises:
        TrainingError: one of these.
    """
    # Weights, gradients, and one or two tensors of the optimiser.
    copies = 3 if config.training.optimizer == "sgd" else 4
    static_bytes = copies * sum(weight.numel() * weight.element_size() for weight in parts.model.parameters())
    try:
        centres = num_centres(parts.loss)
        with explained_memory_errors(config, parts.device, static_bytes=static_bytes, num_centres=centres):
            yield
    except RuntimeError as error:
        sentence = _explain(config, error)
        if sentence is None:
            raise
        raise TrainingError(sentence) from error


@contextmanager
def explained_disk(session: Session, what: str) -> Iterator[None]:
    """Say what to do where the disk refuses what the block writes into the run's folder.

    Raises:
        CheckpointError: it does.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(not_written(what, session.run_folder, error)) from error


def not_written(what: str, folder: Path, error: Exception) -> str:
    """The sentence for something that a run could not write into its folder."""
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"{what} could not be written under {folder} ({reason}); "
        "earlier checkpoints are intact: make room and go on with --resume"
    )


def _explain(config: Config, error: RuntimeError) -> str | None:
    if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
        return (
            "another process of this training is gone, so this one stops too; its own message says why, and the "
            "checkpoints are intact: go on with --resume, or let the launcher start them again (--max-restarts)"
        )
    if config.training.compile is not False and _is_of_compiler(error):
        reason = one_line(error, most_chars=300)
        return (
            f"training.compile: {config.model.backbone} cannot be compiled here ({reason}); "
            "set training.compile: false, or install the C++ compiler or the Triton that it needs"
        )
    return None


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def not_finite(session: Session, lr: float) -> TrainingError:
    """The error for a loss or a gradient that is not finite: which step, and which records it had."""
    first = session.step.first_broken_step
    step = session.global_step if first < 0 else first
    keys = next((keys for number, keys in session.recent_keys if number == step), [])
    records = ", ".join(map(session.loader.name_of, keys[:8])) + (", …" if len(keys) > 8 else "")
    scaler = session.step.scaler
    scale = f", loss scale {scaler.get_scale():.3g}" if scaler.is_enabled() else ""
    own = f" of process {session.world.rank}" if session.world.size > 1 else ""
    return TrainingError(
        f"the loss or a gradient is not finite at step {step} (epoch {session.epoch + 1}, learning rate {lr:.3g}"
        f"{scale}, records{own} {records or 'unknown'}); the update was left out and the checkpoints are "
        "intact. Usual causes: a learning rate that is too high for the batch size, or no warm-up "
        "(training.warmup_epochs)"
    )
