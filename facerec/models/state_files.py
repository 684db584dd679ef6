"""Weights as files: what is read, in which forms, and how parameter names are brought to ours.

Read are checkpoint and run folders of this project, ``.safetensors``, and ``.pth``, ``.pt`` and ``.ckpt`` of the
earlier framework, of arcface_torch and of Lightning (AdaFace). Nothing that a file holds is run
(`facerec.models.state_pickles`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from facerec.errors import CheckpointError, MissingPathError, one_line
from facerec.fsio import check_manifest
from facerec.models.state_pickles import load_pickle

__all__ = ["BACKBONE_FILE", "StoredState", "find_stored", "is_checkpoint", "read_backbone_state", "read_head_state"]

BACKBONE_FILE = "model.safetensors"
_HEAD_FILE = "head.safetensors"
_MANIFEST = "manifest.json"
_RUN_ENTRIES = ("best", "last", "best.pth", "last.pth")
_PICKLES = (".pth", ".pt", ".ckpt")
_BACKBONE_WRAPPERS = ("model_state_dict", "state_dict_backbone", "state_dict")
_HEAD_WRAPPERS = ("model_state_dict", "state_dict_softmax_fc", "state_dict")
_COMPILE_AND_PARALLEL = ("module.", "_orig_mod.")


@dataclass(frozen=True, kw_only=True)
class StoredState:
    """The tensors of one module, as a file holds them."""

    tensors: dict[str, Tensor]
    """Tensors by parameter name, without prefixes of wrappers."""
    path: Path
    """The file."""
    from_pickle: bool
    """Whether it is a ``.pth``, and so from another framework."""
    ignored: tuple[str, ...]
    """Names of the tensors beside them that belong to another module."""
    versions: dict[str, int]
    """Versions of modules by name, where the file tells them (torch saves them with a state dict)."""


def find_stored(path: str | Path) -> Path:
    """Find what to read: a file, a checkpoint folder, or in a run folder its best checkpoint, else its last.

    Raises:
        MissingPathError: nothing is there.
        CheckpointError: the folder is neither a checkpoint nor a run with one.
    """
    given = Path(path)
    if not given.exists():
        raise MissingPathError(f"weights {given} do not exist; check the path")
    if given.is_file() or is_checkpoint(given):
        return given
    for name in _RUN_ENTRIES:
        if (given / name).exists():
            return (given / name).resolve()
    raise CheckpointError(
        f"{given} is neither a checkpoint (it has no {_MANIFEST}) nor a run folder (it has no best or last); "
        "give the folder of one checkpoint"
    )


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a checkpoint folder."""
    return (path / _MANIFEST).is_file()


def read_backbone_state(path: str | Path) -> StoredState:
    """Read the weights of a backbone.

    Raises:
        MissingPathError: nothing is there.
        CheckpointError: it is damaged, holds something else, or asks to run code.
    """
    return _read(path, file_name=BACKBONE_FILE, wrappers=_BACKBONE_WRAPPERS, prefixes=("model.", "backbone."))


def read_head_state(path: str | Path) -> StoredState:
    """Read the weights of a head; see `read_backbone_state`."""
    return _read(path, file_name=_HEAD_FILE, wrappers=_HEAD_WRAPPERS, prefixes=("head.",))


def _read(path: str | Path, *, file_name: str, wrappers: tuple[str, ...], prefixes: tuple[str, ...]) -> StoredState:
    found = find_stored(path)
    if found.is_dir():
        check_manifest(found)
        found = found / file_name
    from_pickle = found.suffix.lower() in _PICKLES
    if from_pickle:
        state = _unwrap(load_pickle(found), wrappers, found)
    elif found.suffix.lower() == ".safetensors":
        state = _load_safetensors(found)
    else:
        raise CheckpointError(
            f"{found} is no file of weights; give a checkpoint folder, a .safetensors, a .pth or a .ckpt"
        )
    tensors, removed = _strip_prefixes(state, prefixes)
    if not tensors:
        raise CheckpointError(f"{found} holds no tensors under names; give a state dict")
    versions = {name.removeprefix(removed): version for name, version in _module_versions(state).items()}
    return StoredState(
        tensors=tensors, path=found, from_pickle=from_pickle, ignored=_not_taken(state, tensors), versions=versions
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path.parent} holds no {path.name}; use another checkpoint") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {one_line(error)}") from error


def _unwrap(content: Any, wrappers: tuple[str, ...], path: Path) -> Mapping[str, Any]:
    for name in wrappers:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, no state dict; save model.state_dict()")
    return content


def _strip_prefixes(state: Mapping[str, Any], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], str]:
    """The tensors under the longest chain of known prefixes, and that chain."""
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
    removed = ""
    while True:
        wrapped = [p for p in _COMPILE_AND_PARALLEL if tensors and all(name.startswith(p) for name in tensors)]
        inner = wrapped or [p for p in prefixes if any(name.startswith(p) for name in tensors)]
        if not inner:
            return tensors, removed
        removed += inner[0]
        tensors = {name.removeprefix(inner[0]): value for name, value in tensors.items() if name.startswith(inner[0])}


def _not_taken(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The tensors of ``state`` that are not among ``tensors``, which hold the ends of its names."""
    taken = {id(tensor) for tensor in tensors.values()}
    return tuple(name for name, value in state.items() if isinstance(value, Tensor) and id(value) not in taken)


def _module_versions(state: Mapping[str, Any]) -> dict[str, int]:
    metadata = getattr(state, "_metadata", None)
    if not isinstance(metadata, Mapping):
        return {}
    return {
        name: facts["version"]
        for name, facts in metadata.items()
        if isinstance(name, str) and isinstance(facts, Mapping) and isinstance(facts.get("version"), int)
    }
