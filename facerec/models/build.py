"""From a configuration to a model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from facerec.config.schema import BACKBONE_OPTIONS, Config, HeadConfig, ModelConfig, head_options
from facerec.errors import ConfigError
from facerec.models.backbones.base import Backbone
from facerec.models.state_load import load_backbone_weights
from facerec.registry import BACKBONES, HEADS

__all__ = ["FaceModel", "build_backbone", "build_head", "build_model"]

_logger = logging.getLogger(__name__)


class FaceModel(nn.Module):
    """A backbone and a margin head."""

    def __init__(self, *, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Embeddings (B, D); with labels (B,) in [0, C) the logits (B, C) and the embeddings."""
        embeddings_BD: Tensor = self.backbone(images_BCHW)
        if labels_B is None:
            return embeddings_BD
        return self.head(embeddings_BD, labels_B), embeddings_BD


def build_backbone(config: ModelConfig, *, image_hw: tuple[int, int]) -> Backbone:
    """Build a backbone with random weights.

    Raises:
        ConfigError: the name is unknown, the backbone lacks an option that is set, or the extra that it needs.
        ModelError: the images are too small for it.
    """
    entry = BACKBONES.entry(config.backbone)
    options: dict[str, Any] = dict(entry.options)
    for name in BACKBONE_OPTIONS:
        value = getattr(config, name)
        if value is None:
            continue
        if name not in options:
            raise ConfigError(f"model.{name}: {config.backbone} has no {name}; remove the key")
        options[name] = value
    backbone: Backbone = entry.load()(embedding_size=config.embedding_size, image_hw=image_hw, **options)
    backbone.name = config.backbone
    if config.grad_checkpointing:
        backbone.enable_grad_checkpointing()
    return backbone


def build_head(config: HeadConfig, *, embedding_size: int, num_classes: int) -> nn.Module:
    """Build a margin head with random class centres.

    Raises:
        ConfigError: the name is unknown, or a setting is out of its range.
    """
    entry = HEADS.entry(config.type)
    options = head_options(config, entry.options)
    head: nn.Module = entry.load()(
        embedding_size=embedding_size, num_classes=num_classes, scale=config.scale, **options
    )
    return head


def build_model(config: Config, *, num_classes: int | None = None) -> FaceModel:
    """Build the model of a configuration on the CPU, with the weights of ``model.pretrained`` where it names any.

    The random weights depend on ``config.seed`` alone, and the generators of the caller stay as they are.

    Raises:
        ConfigError: the number of classes is not known, or the configuration's differs from ``num_classes``.
        MissingPathError, CheckpointError: ``model.pretrained`` cannot be loaded.
    """
    classes = _num_classes(config.head.num_classes, num_classes)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that would also seed the generators of the caller's GPUs.
        torch.default_generator.manual_seed(config.seed % 2**64)
        backbone = build_backbone(config.model, image_hw=config.image_hw)
        head = build_head(config.head, embedding_size=config.model.embedding_size, num_classes=classes)
    if isinstance(config.model.pretrained, str):
        _logger.info("pretrained: %s", load_backbone_weights(backbone, config.model.pretrained))
    return FaceModel(backbone=backbone, head=head)


def _num_classes(configured: int | None, given: int | None) -> int:
    if configured is not None and given is not None and configured != given:
        raise ConfigError(
            f"head.num_classes: is {configured}, but the training set has {given} identities; remove the key, or name "
            "the data set that it belongs to"
        )
    classes = configured if given is None else given
    if classes is None:
        raise ConfigError("head.num_classes: is not set and no data tells it; set it, or give data.root")
    return classes
