"""The head of a training: whole in one process, split by classes over several. A checkpoint always holds it whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from facerec.config.schema import Config
from facerec.errors import CheckpointError, ConfigError
from facerec.models.classification import ClassificationLoss, LossSettings, build_classification_loss
from facerec.models.heads.base import CosineHead
from facerec.models.sharded import ShardedClassificationLoss
from facerec.models.state_load import load_tensors
from facerec.training.distributed import World

__all__ = [
    "HeadLoss",
    "build_loss",
    "load_head",
    "num_centres",
    "own_rows",
    "split_weights",
    "whole_head",
    "whole_rows",
]

HeadLoss = ClassificationLoss | ShardedClassificationLoss


def build_loss(head: nn.Module, config: Config, *, world: World) -> HeadLoss:
    """The loss around a whole head that is on its device; with several processes each keeps its own classes.

    Raises:
        ConfigError: the head is not made of class centres, or there are more processes than classes.
    """
    if world.size == 1:
        return build_classification_loss(head, config.head, seed=config.seed)
    if not isinstance(head, CosineHead):
        raise ConfigError(f"head.type: '{config.head.type}' is not made of class centres, so it cannot be split")
    return ShardedClassificationLoss(head, LossSettings.of(config.head, seed=config.seed))


def num_centres(loss: HeadLoss) -> int:
    """Class centres of all processes; a head may have several for each class."""
    per_class = loss.head.weight.shape[1:-1].numel()
    return loss.head.num_classes * per_class


def split_weights(loss: HeadLoss) -> list[nn.Parameter]:
    """The weights that every process has a part of its own of."""
    return [loss.head.weight] if isinstance(loss, ShardedClassificationLoss) else []


def whole_head(loss: HeadLoss) -> dict[str, Tensor]:
    """The state dict of the whole head, on rank 0; nothing elsewhere. Call it on every process."""
    if isinstance(loss, ShardedClassificationLoss):
        return loss.head_state() or {}
    return loss.head.state_dict()


def load_head(loss: HeadLoss, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Load a whole head, or this process's classes of it.

    Raises:
        CheckpointError: names or shapes are those of another head.
    """
    if not isinstance(loss, ShardedClassificationLoss):
        load_tensors(loss.head, tensors, path=path, what="the configured head")
        return
    weight = tensors.get("weight")
    if weight is None or weight.shape[0] != loss.shard.num_classes:
        raise CheckpointError(f"{path} holds no centres of {loss.shard.num_classes} classes; use the same data")
    load_tensors(loss.head, {**tensors, "weight": loss.own_part(weight)}, path=path, what="the configured head")


def whole_rows(loss: HeadLoss, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Optimiser tensors whose rows are this process's classes, made whole on rank 0. Call it on every process."""
    if not isinstance(loss, ShardedClassificationLoss):
        return tensors
    gathered = {name: loss.gather_full(tensor) for name, tensor in tensors.items() if _has_rows(loss, name, tensor)}
    return tensors | {name: tensor for name, tensor in gathered.items() if tensor is not None}


def own_rows(loss: HeadLoss, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `whole_rows`, from tensors that are whole on every process."""
    if not isinstance(loss, ShardedClassificationLoss):
        return tensors
    return {
        name: loss.own_part(tensor) if name.startswith(_WEIGHT) and tensor.dim() > 0 else tensor
        for name, tensor in tensors.items()
    }


_WEIGHT = "head.weight."


def _has_rows(loss: ShardedClassificationLoss, name: str, tensor: Tensor) -> bool:
    return name.startswith(_WEIGHT) and tensor.shape == loss.head.weight.shape
