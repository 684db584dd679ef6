"""Which backbone a set of weights belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from facerec.models.backbones.base import Backbone
from facerec.models.sizes import SIZES
from facerec.registry import BACKBONES

__all__ = ["suggest_backbone"]

_COUNTER = "num_batches_tracked"
_ALIKE = 0.9
_SIZE_RATIO = 3.0
"""Between the same backbone with other dimensions; it saves building most of the others."""


def suggest_backbone(tensors: Mapping[str, Tensor], *, instead_of: Backbone) -> str:
    """The end of a sentence: the registered backbone that the weights fit, or an empty string.

    Backbones of like size are built without memory, with the dimensions of ``instead_of``; one whose names are all
    there and of which nine in ten shapes are the same is named as built for others.
    """
    numbers = sum(tensor.numel() for tensor in tensors.values())
    fitting: dict[str, int] = {}
    nearly = ""
    for entry in BACKBONES:
        if not 1 / _SIZE_RATIO < numbers / SIZES.get(entry.name, (numbers, 0))[0] < _SIZE_RATIO:
            continue
        with torch.device("meta"):
            candidate: Backbone = entry.load()(
                embedding_size=instead_of.embedding_size, image_hw=instead_of.image_hw, **entry.options
            )
        share = _share_alike(candidate, tensors)
        if share == 1.0:
            fitting[entry.name] = len(candidate.state_dict())
        elif share >= _ALIKE and not nearly:
            nearly = f"; they are of {entry.name} with another model.embedding_size or data.img_size"
    # Where weights are filled up to fit a second backbone, the one that has nothing to fill is theirs.
    return f"; they fit model.backbone: {min(fitting, key=lambda name: fitting[name])}" if fitting else nearly


def _share_alike(candidate: Backbone, tensors: Mapping[str, Tensor]) -> float:
    """The share of the candidate's tensors that are there in its shape; 0 where names differ."""
    adopted = _counted(candidate.adopt(tensors)[0])
    expected = _counted(candidate.state_dict())
    if adopted.keys() != expected.keys():
        return 0.0
    return sum(adopted[name].shape == expected[name].shape for name in expected) / len(expected)


def _counted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
