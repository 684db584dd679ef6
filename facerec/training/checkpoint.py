"""Checkpoints: one folder each, complete under its final name or not there at all.

A run folder holds ``step-00000300/`` and so on, and the links ``last`` and ``best``. A checkpoint holds
``model.safetensors`` (the backbone as it is verified and served), ``head.safetensors``, ``optimizer.safetensors``,
``state.json`` and ``manifest.json`` with the checksums. Where the model is a moving average of the weights,
``trained_model.safetensors`` holds the weights themselves.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from facerec.errors import CheckpointError
from facerec.fsio import atomic_folder, check_manifest, point_link_at, write_manifest

__all__ = [
    "FORMAT",
    "SavedState",
    "list_checkpoints",
    "mark",
    "prune",
    "read_state",
    "read_tensors",
    "save_checkpoint",
    "set_aside_later",
]

FORMAT = 2
_READABLE = (1, 2)
"""Format 1 numbers the weights in the optimiser's state; format 2 names them."""
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """What a checkpoint holds beside tensors; all of it plain data."""

    epoch: int
    """Epochs completed."""
    step_in_epoch: int
    """Steps done in the epoch that comes next."""
    global_step: int
    """Updates since the start."""
    num_classes: int
    config: dict[str, Any]
    fingerprint: str
    """Digest of the training data."""
    rng: dict[str, Any]
    """State of the random generators."""
    epoch_sums: list[float]
    """Loss, hits and pictures of the epoch so far."""
    scaler: dict[str, Any]
    optimizer: dict[str, Any]
    """Kind and scalar state of the optimiser."""
    evaluations: list[dict[str, Any]]
    tracker_run_id: str | None
    world_size: int = 1
    """Processes of the training."""
    ranks: list[dict[str, Any]] = field(default_factory=list)
    """``rng`` and ``epoch_sums`` of the processes after the first."""
    pair_sets: dict[str, str] = field(default_factory=dict)
    """Digest of each verification set, by its name."""
    skipped_keys: list[int] = field(default_factory=list)
    """Keys of the damaged records that any process has left out so far."""


def save_checkpoint(run_folder: Path, state: SavedState, *, files: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write the checkpoint of ``state.global_step``, point ``last`` at it, and return its folder.

    ``files`` holds the tensors of each file by the file's name without ``.safetensors``.

    A checkpoint of the same step that is there already is kept: the same run wrote the same content.
    """
    folder = run_folder / f"step-{state.global_step:08d}"
    if not folder.exists():
        with atomic_folder(folder) as partial:
            for name, tensors in files.items():
                save_file(_plain_tensors(tensors), partial / f"{name}.safetensors")
            content = {"format": FORMAT, **vars(state)}
            (partial / "state.json").write_text(json.dumps(content), encoding="utf-8")
            write_manifest(partial, format=FORMAT, step=state.global_step)
    mark(run_folder, "last", folder)
    return folder


def mark(run_folder: Path, link: str, checkpoint: Path) -> None:
    """Make ``last`` or ``best`` name a checkpoint of the run."""
    point_link_at(run_folder / link, checkpoint.name)


def list_checkpoints(run_folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [(int(match[1]), path) for path in run_folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def set_aside_later(run_folder: Path, *, step: int) -> list[str]:
    """Rename the checkpoints after ``step``, from which the run goes on another way; returns the new names.

    They are no checkpoints of the run any more: a checkpoint that is there already would be kept instead of a new one.
    """
    names: list[str] = []
    for path in list_checkpoints(run_folder):
        if int(path.name.removeprefix("step-")) > step:
            target = path.with_name(f"replaced-{path.name}")
            if target.exists():
                shutil.rmtree(target)
            names.append(path.rename(target).name)
    return names


def prune(run_folder: Path, *, keep_last_n: int) -> list[OSError]:
    """Remove all but the newest ``keep_last_n`` checkpoints and those that ``last`` and ``best`` name.

    Returns why something could not be removed; it is tried again the next time.
    """
    failures: list[OSError] = []
    kept = {(run_folder / link).resolve().name for link in ("last", "best") if (run_folder / link).is_symlink()}
    for path in list_checkpoints(run_folder)[:-keep_last_n]:
        if path.name in kept:
            continue
        try:
            # Under the other name it is no checkpoint any more, however much of it a crash leaves there.
            path.rename(path.with_name(f".partial-{path.name}-old"))
        except OSError as error:
            failures.append(error)
    for leftover in run_folder.glob(".partial-step-*"):
        try:
            shutil.rmtree(leftover)
        except OSError as error:
            failures.append(error)
    return failures


def read_state(folder: Path) -> SavedState:
    """Check a checkpoint's files against its manifest and read its state.

    Raises:
        CheckpointError: it is damaged, or of a format that this version does not know.
    """
    check_manifest(folder)
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        version = content.pop("format")
        if version not in _READABLE:
            raise CheckpointError(f"{folder} has checkpoint format {version}; this version reads up to {FORMAT}")
        return SavedState(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'state.json'} cannot be used ({error}); use another checkpoint") from error


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one file of a checkpoint that `read_state` has checked, on the CPU."""
    return load_file(folder / f"{name}.safetensors")


def _plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors wants contiguous tensors that share no memory; channels_last weights are neither.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
