"""Where float32 is kept although the rest of the network runs in half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["embed_float32", "full_precision", "full_precision_dtype"]


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for the device of ``tensor``.

    Where autocast is off already nothing is entered, so that an exported graph holds no trace of it, and devices that
    know no autocast (meta) work.
    """
    device_type = tensor.device.type
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def full_precision_dtype(weight: Tensor) -> torch.dtype:
    """The dtype to compute in: float32, or float64 where the module was converted to it."""
    return torch.promote_types(weight.dtype, torch.float32)


def embed_float32(features_BF: Tensor, *, fc: nn.Linear, norm: nn.Module) -> Tensor:
    """Apply the final linear layer and batch normalisation in float32, whatever autocast says.

    Half precision here costs accuracy: the embedding's small differences are what verification measures.

    Shape: ``features_BF`` (B, F); result (B, D), in the dtype of ``fc.weight``.
    """
    with full_precision(features_BF):
        embeddings_BD: Tensor = norm(fc(features_BF.to(fc.weight.dtype)))
    return embeddings_BD
