"""The weights of a backbone as the file that a predictor holds; its hash names the model."""

from __future__ import annotations

import hashlib

from safetensors.torch import save
from torch import nn

__all__ = ["weights_as_bytes", "weights_sha256"]


def weights_as_bytes(backbone: nn.Module) -> bytes:
    """The state dict as safetensors; the same weights give the same bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()})


def weights_sha256(backbone: nn.Module) -> str:
    """SHA-256 of `weights_as_bytes`."""
    return hashlib.sha256(weights_as_bytes(backbone)).hexdigest()
