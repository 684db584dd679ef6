"""AdaFace's files of weights under the names of ours.

AdaFace's networks (its ``net.py``) are improved residual networks with other names, and two differences: they take BGR,
which turning the first convolution's input channels around makes RGB; and where the width stays, the first shortcut of
a stage takes every second pixel, where arcface_torch's networks project it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["CORE_NAMES", "add_projection", "is_adaface", "rename_adaface"]

_OUTER = {
    "input_layer.0": "conv1",
    "input_layer.1": "bn1",
    "input_layer.2": "prelu",
    "output_layer.0": "bn2",
    "output_layer.3": "fc",
    "output_layer.4": "features",
}
_INNER = {
    "res_layer.0": "bn1",
    "res_layer.1": "conv1",
    "res_layer.2": "bn2",
    "res_layer.3": "prelu",
    "res_layer.4": "conv2",
    "res_layer.5": "bn3",
    "shortcut_layer.0": "downsample.0",
    "shortcut_layer.1": "downsample.1",
}
_BODY = re.compile(r"body\.(\d+)\.(\w+\.\d+)\.(\w+)")
_EPS = 1e-5
CORE_NAMES = frozenset({"layer1.0.bn3.weight", "features.running_mean"})
"""Names that `add_projection` reads."""


def is_adaface(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of AdaFace's networks."""
    return "input_layer.0.weight" in names and "body.0.res_layer.0.weight" in names


def rename_adaface(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of AdaFace's ``ir_18`` to ``ir_101`` as those of an `IResNet`, for RGB.

    Names that such a network does not have, such as those of squeeze-and-excitation, stay as they are.
    """
    places = _places(tensors)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        inner = _BODY.fullmatch(name)
        layer, _, leaf = name.rpartition(".")
        if inner and inner[2] in _INNER:
            name = f"{places[int(inner[1])]}.{_INNER[inner[2]]}.{inner[3]}"
        elif layer in _OUTER:
            name = f"{_OUTER[layer]}.{leaf}"
        renamed[name] = tensor
    if "conv1.weight" in renamed:
        renamed["conv1.weight"] = renamed["conv1.weight"].flip(1)
    return renamed


def _places(tensors: Mapping[str, Tensor]) -> dict[int, str]:
    """``layerS.N`` of each block of the body: a stage after the first begins where a shortcut is projected."""
    numbers = sorted({int(match[1]) for match in map(_BODY.fullmatch, tensors) if match})
    places: dict[int, str] = {}
    stage, index = 1, 0
    for number in numbers:
        if f"body.{number}.shortcut_layer.0.weight" in tensors:
            stage, index = stage + 1, 0
        places[number] = f"layer{stage}.{index}"
        index += 1
    return places


def add_projection(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What arcface_torch's shape has and AdaFace's has not, so that in evaluation mode both compute the same.

    The projection of the first stage becomes the identity, its normalisation and the last one's scale and shift too.
    """
    width = tensors["layer1.0.bn3.weight"].shape[0]
    embedding_size = tensors["features.running_mean"].shape[0]
    return {
        **tensors,
        "layer1.0.downsample.0.weight": torch.eye(width)[:, :, None, None],
        "layer1.0.downsample.1.weight": torch.ones(width),
        "layer1.0.downsample.1.bias": torch.zeros(width),
        "layer1.0.downsample.1.running_mean": torch.zeros(width),
        "layer1.0.downsample.1.running_var": torch.full((width,), 1.0 - _EPS),
        "features.weight": torch.ones(embedding_size),
        "features.bias": torch.zeros(embedding_size),
    }
