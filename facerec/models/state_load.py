"""Weights into modules: names and shapes are compared first, so that a wrong file changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from facerec.errors import CheckpointError
from facerec.models.backbones.base import Backbone
from facerec.models.backbones.fastcontextface import FastContextFace, convert_late_gate
from facerec.models.fitting import suggest_backbone
from facerec.models.state_files import StoredState, read_backbone_state, read_head_state

__all__ = ["OtherArchitectureError", "load_backbone_weights", "load_head_weights", "load_tensors"]

_COUNTER = "num_batches_tracked"
_CLASSIFIER = re.compile(r"(head|classifier|margin|margin_softmax|arcface|softmax_fc|loss|kernel)(\.|$)")
_NAMED = 3
_GATE_BEFORE_SCALE = 2


class OtherArchitectureError(CheckpointError):
    """Names or shapes of the tensors are those of another module."""


def load_backbone_weights(backbone: Backbone, path: str | Path) -> str:
    """Load weights into ``backbone``; returns a sentence on what was loaded.

    ``path`` is a checkpoint folder, a run folder (its best, else its last checkpoint), a ``.safetensors``, or a
    ``.pth``, ``.pt`` or ``.ckpt`` of the earlier framework, of arcface_torch, of AdaFace or of Lightning. Tensors of a
    classifier are not used.

    Raises:
        MissingPathError: nothing is there.
        CheckpointError: the file is damaged, asks to run code, or holds another architecture; the message names the
            first tensors that differ and the backbone that fits, where one does.
    """
    stored = read_backbone_state(path)
    renamed = _rename(stored)
    tensors, conversion = _convert(renamed, stored, backbone)
    tensors, ignored = _without_classifier(tensors, backbone)
    height, width = backbone.image_hw
    shape = f"{backbone.embedding_size} dimensions, images of {height}x{width}"
    try:
        load_tensors(backbone, tensors, path=stored.path, what=f"{backbone.name} ({shape})")
    except OtherArchitectureError as error:
        raise OtherArchitectureError(f"{error}{suggest_backbone(renamed, instead_of=backbone)}") from error
    ignored = (*stored.ignored, *ignored)
    note = f"; the classifier is not used ({', '.join(ignored[:_NAMED])})" if ignored else ""
    return f"{backbone.name} from {stored.path}{conversion}{note}"


def load_head_weights(head: nn.Module, path: str | Path) -> str:
    """Load weights into ``head``; returns a sentence on what was loaded.

    Buffers that a ``.pth`` does not have, such as AdaFace's statistics in files of the earlier framework, keep their
    initial values.

    Raises:
        MissingPathError: nothing is there.
        CheckpointError: the file is damaged, asks to run code, or holds another head or another number of classes.
    """
    stored = read_head_state(path)
    buffers = dict(head.named_buffers())
    kept = [name for name in buffers if stored.from_pickle and name not in stored.tensors]
    tensors = {**stored.tensors, **{name: buffers[name] for name in kept}}
    load_tensors(head, tensors, path=stored.path, what=f"the head {type(head).__name__}")
    note = f"; {', '.join(kept)} start anew" if kept else ""
    return f"{type(head).__name__} from {stored.path}{note}"


def _rename(stored: StoredState) -> dict[str, Tensor]:
    if not stored.from_pickle:
        return stored.tensors
    # The earlier framework's own resnets have torchvision's layers, with another name for the projection.
    return {name.replace(".shortcut.", ".downsample."): tensor for name, tensor in stored.tensors.items()}


def _without_classifier(tensors: dict[str, Tensor], backbone: Backbone) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors that are no classifier's, and the names of those that are."""
    expected = backbone.state_dict()
    ignored = tuple(name for name in tensors if name not in expected and _CLASSIFIER.match(name))
    return {name: tensor for name, tensor in tensors.items() if name not in ignored}, ignored


def _convert(tensors: dict[str, Tensor], stored: StoredState, backbone: Backbone) -> tuple[dict[str, Tensor], str]:
    """Bring the names and the weights of other frameworks to ours; the second result tells what was changed."""
    late_gate = stored.from_pickle and stored.versions.get("stages.0.0", 1) < _GATE_BEFORE_SCALE
    if late_gate and isinstance(backbone, FastContextFace):
        _compare(backbone.state_dict(), tensors, path=stored.path, what=backbone.name)
        return convert_late_gate(tensors), ", converted to the gate before the layer scale"
    return backbone.adopt(tensors)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Load the tensors of ``path`` into a module that is ``what``, as a message calls it; all of them or none.

    Raises:
        CheckpointError: a name or a shape differs, or a number is not finite.
    """
    _compare(module.state_dict(), tensors, path=path, what=what)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite; use an earlier checkpoint")
    module.load_state_dict(dict(tensors))


def _compare(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    missing = [name for name in expected if name not in tensors and not name.endswith(_COUNTER)]
    unexpected = [name for name in tensors if name not in expected]
    different = [name for name in expected if name in tensors and not _alike(expected[name], tensors[name])]
    problems = []
    if missing:
        problems.append(f"{_first(missing)} missing, such as {missing[0]} {_shape(expected[missing[0]])}")
    if unexpected:
        problems.append(f"{_first(unexpected)} unknown, such as {unexpected[0]} {_shape(tensors[unexpected[0]])}")
    if different:
        name = different[0]
        problems.append(
            f"{_first(different)} of another shape, such as {name} "
            f"{_shape(tensors[name])} where {_shape(expected[name])} is needed"
        )
    if problems:
        raise OtherArchitectureError(f"{path} holds no weights of {what}: {'; '.join(problems)}")


def _alike(expected: Tensor, found: Tensor) -> bool:
    return expected.shape == found.shape and expected.is_floating_point() == found.is_floating_point()


def _first(names: list[str]) -> str:
    return f"{len(names)} tensor{'s are' if len(names) > 1 else ' is'}"


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}"
