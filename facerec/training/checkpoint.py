"""Checkpoints: one folder each, complete under its final name or not there at all.

A run folder holds ``step-00000300/`` and so on, and the links ``last`` and ``best``. A checkpoint holds
``model.safetensors`` (the backbone), ``head.safetensors``, ``optimizer.safetensors``, ``state.json`` and
``manifest.json`` with the checksums.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from facerec.errors import CheckpointError
from facerec.fsio import atomic_folder, check_manifest, point_link_at, write_manifest

__all__ = [
    "FORMAT",
    "SavedState",
    "list_checkpoints",
    "load_checkpoint",
    "mark",
    "prune",
    "read_state",
    "save_checkpoint",
]

FORMAT = 1
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
    """Parameter groups and scalar state of the optimiser."""
    evaluations: list[dict[str, Any]]
    tracker_run_id: str | None


def save_checkpoint(
    run_folder: Path, state: SavedState, *, backbone: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Write the checkpoint of ``state.global_step``, point ``last`` at it, and return its folder.

    A checkpoint of the same step that is there already is kept: the same run wrote the same content.
    """
    folder = run_folder / f"step-{state.global_step:08d}"
    if not folder.exists():
        with atomic_folder(folder) as partial:
            save_file(_plain_tensors(backbone.state_dict()), partial / "model.safetensors")
            save_file(_plain_tensors(head.state_dict()), partial / "head.safetensors")
            tensors, scalars = _split_optimizer(optimizer)
            save_file(tensors, partial / "optimizer.safetensors")
            content = {"format": FORMAT, **vars(state), "optimizer": scalars}
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


def prune(run_folder: Path, *, keep_last_n: int) -> None:
    """Remove all but the newest ``keep_last_n`` checkpoints and those that ``last`` and ``best`` name."""
    kept = {(run_folder / link).resolve().name for link in ("last", "best") if (run_folder / link).is_symlink()}
    for path in list_checkpoints(run_folder)[:-keep_last_n]:
        if path.name not in kept:
            shutil.rmtree(path)
    for leftover in run_folder.glob(".partial-step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def read_state(folder: Path) -> SavedState:
    """Check a checkpoint's files against its manifest and read its state.

    Raises:
        CheckpointError: it is damaged, or of a format that this version does not know.
    """
    check_manifest(folder)
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        version = content.pop("format")
        if version != FORMAT:
            raise CheckpointError(f"{folder} has checkpoint format {version}; this version reads format {FORMAT}")
        return SavedState(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'state.json'} cannot be used ({error}); use another checkpoint") from error


def load_checkpoint(
    folder: Path,
    state: SavedState,
    *,
    backbone: nn.Module,
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Copy a checkpoint's tensors into the modules and the optimiser.

    Raises:
        CheckpointError: the checkpoint belongs to another architecture, head or optimiser.
    """
    _load_module(folder / "model.safetensors", backbone)
    _load_module(folder / "head.safetensors", head)
    _load_optimizer(folder, state, optimizer)


def _plain_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors wants contiguous tensors that share no memory; channels_last weights are neither.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def _load_module(path: Path, module: nn.Module) -> None:
    saved = load_file(path)
    expected = module.state_dict()
    for name in expected:
        if name not in saved:
            raise CheckpointError(f"{path} belongs to another architecture: it has no '{name}'")
        if saved[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{path} belongs to another architecture: '{name}' has shape {tuple(saved[name].shape)}, "
                f"this model needs {tuple(expected[name].shape)}"
            )
    if unknown := sorted(set(saved) - set(expected)):
        raise CheckpointError(f"{path} belongs to another architecture: this model has no '{unknown[0]}'")
    module.load_state_dict(saved)


def _split_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, fields in content["state"].items():
        for name, value in fields.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    groups = [{name: value for name, value in group.items() if name != "lr"} for group in content["param_groups"]]
    return _plain_tensors(tensors), {"kind": type(optimizer).__name__, "groups": groups, "state": scalars}


def _load_optimizer(folder: Path, state: SavedState, optimizer: torch.optim.Optimizer) -> None:
    kind = state.optimizer["kind"]
    if kind != type(optimizer).__name__:
        raise CheckpointError(f"{folder} was trained with {kind}, not with {type(optimizer).__name__}")
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    fields: dict[int, dict[str, Any]] = {int(key): dict(values) for key, values in state.optimizer["state"].items()}
    for key, tensor in load_file(folder / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        weight = parameters[int(index)]
        if tensor.shape == weight.shape:
            # In the memory layout of the weight, so that the update runs through the same kernels as before.
            tensor = torch.empty_like(weight, dtype=tensor.dtype, memory_format=torch.preserve_format).copy_(tensor)
        fields.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": fields, "param_groups": _with_rates(state.optimizer["groups"], optimizer)})


def _with_rates(saved_groups: list[dict[str, Any]], optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    # Settings such as weight decay come from the present configuration; the saved groups give the order of the weights.
    groups = optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in saved_groups]:
        raise CheckpointError("the checkpoint's optimiser has another number of weights; use the same model settings")
    return groups
