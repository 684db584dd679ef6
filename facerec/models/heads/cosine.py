"""What the margin heads share: scaled cosines of embeddings and class centres, and a change at the labels alone.

Nothing here builds a one-hot matrix: the (B, C) logits exist once, and the margin touches B of their entries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facerec.errors import ConfigError, ModelError
from facerec.models.precision import full_precision_dtype

__all__ = ["add_at_labels", "at_labels", "check_labels", "check_margin", "class_centres", "scaled_cosines"]


def class_centres(*, num_classes: int, embedding_size: int, sub_centres: int = 1) -> nn.Parameter:
    """New class centres, drawn from N(0, 0.01); (C, D), or (C, K, D) with K > 1 centres per class."""
    shape = (num_classes, embedding_size) if sub_centres == 1 else (num_classes, sub_centres, embedding_size)
    return nn.Parameter(torch.empty(shape).normal_(0.0, 0.01))


def check_margin(margin: float, *, below: float, unit: str, at_least: float = 0.0, key: str = "margin") -> None:
    """Refuse a margin that no angle or cosine can have.

    Raises:
        ConfigError: ``margin`` is under ``at_least`` or not below ``below``.
    """
    if not at_least <= margin < below:
        raise ConfigError(f"head.{key}: must be {unit} from {at_least:g} to below {below:.4g}, not {margin:g}")


def scaled_cosines(embeddings_BD: Tensor, weight: Tensor, *, scale: float | Tensor) -> Tensor:
    """``scale`` times the cosine of every embedding with every class centre, the nearest where a class has several.

    Call it where autocast is off. Computed in float32, in float64 where the weights are; the scale goes to the small
    factor, so that the large result is written once.

    Shape: (B, D) and (C, D) or (C, K, D) to (B, C).
    """
    dtype = full_precision_dtype(weight)
    embeddings_BD = F.normalize(embeddings_BD.to(dtype)) * scale
    centres = F.normalize(weight.to(dtype), dim=-1)
    if centres.dim() == 2:
        return F.linear(embeddings_BD, centres)
    logits_BCK = F.linear(embeddings_BD, centres.flatten(0, 1)).unflatten(1, centres.shape[:2])
    return logits_BCK.max(dim=2).values


def check_labels(labels_B: Tensor, *, num_classes: int) -> None:
    """Refuse labels without a class, where that is free: on the CPU.

    Elsewhere it would stall the device at every step, and the labels of a training set are checked when it is opened.

    Raises:
        ModelError: a label is outside [0, C).
    """
    if labels_B.device.type != "cpu" or torch.compiler.is_compiling() or labels_B.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in torch.aminmax(labels_B))
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise ModelError(f"label {wrong} is outside 0 to {num_classes - 1}, the classes of the head")


def at_labels(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The entry of each row at its label; (B,)."""
    return logits_BC[_rows(labels_B), labels_B]


def add_at_labels(logits_BC: Tensor, labels_B: Tensor, change_B: Tensor) -> Tensor:
    """Add ``change_B`` to the entry of each row at its label, in place; returns ``logits_BC``.

    In place is right here, because no backward formula of the logits so far needs their values; and the gradient of
    an addition passes through without a copy.
    """
    return logits_BC.index_put_((_rows(labels_B), labels_B), change_B, accumulate=True)


def _rows(labels_B: Tensor) -> Tensor:
    return torch.arange(labels_B.shape[0], device=labels_B.device)
