"""Stored weights into modules, and trained backbones ready to use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.errors import CheckpointError, ConfigError
from facerec.fsio import check_manifest
from facerec.models.backbones.base import Backbone
from facerec.models.build import build_backbone
from facerec.models.state_files import BACKBONE_FILE, find_stored, is_checkpoint
from facerec.models.state_load import load_backbone_weights, load_head_weights

__all__ = ["LoadedBackbone", "load_backbone", "load_backbone_weights", "load_head_weights"]

_STATE_FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class LoadedBackbone:
    """A trained backbone, ready to embed pictures."""

    backbone: Backbone
    """In evaluation mode, channels last, on the device that was asked for."""
    config: Config
    """The configuration it is used with."""
    path: Path
    """What was read: a checkpoint folder or a file."""
    description: str
    """One sentence on what was loaded."""
    num_classes: int | None
    """Number of identities of the training, where the checkpoint tells it."""


def load_backbone(
    path: str | Path, *, config: Config | None = None, device: str | torch.device = "cpu"
) -> LoadedBackbone:
    """Build the backbone of a checkpoint and load its weights.

    A checkpoint of this project carries its configuration; any other file needs ``config``.

    Raises:
        MissingPathError: nothing is there.
        ConfigError: neither the file nor the caller tells the configuration, or the stored one cannot be used.
        CheckpointError: the file is damaged, asks to run code, or is of another architecture than ``config``.
    """
    found = find_stored(path)
    state: dict[str, Any] = {}
    weights = found
    if is_checkpoint(found):
        check_manifest(found)
        state = _read_state(found)
        weights = found / BACKBONE_FILE
    stored = _stored_config(state, found)
    chosen = config or stored
    if chosen is None:
        raise ConfigError(f"{found} holds weights without a configuration; name one (--config FILE)")
    if config is not None and stored is not None:
        _check_same_architecture(config, stored, found)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        backbone = build_backbone(chosen.model, image_hw=chosen.image_hw)
    description = load_backbone_weights(backbone, weights)
    backbone.to(device).to(memory_format=torch.channels_last).eval()
    num_classes = state.get("num_classes")
    return LoadedBackbone(
        backbone=backbone,
        config=chosen,
        path=found,
        description=description,
        num_classes=num_classes if isinstance(num_classes, int) else None,
    )


def _read_state(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / _STATE_FILE
    try:
        state: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {_STATE_FILE} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged; use another checkpoint of the run") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is damaged; use another checkpoint of the run")
    return state


def _stored_config(state: dict[str, Any], found: Path) -> Config | None:
    plain = state.get("config")
    if not isinstance(plain, dict):
        return None
    return config_from_dict(plain, source=str(found / _STATE_FILE))


def _check_same_architecture(config: Config, stored: Config, found: Path) -> None:
    asked, held = _architecture(config), _architecture(stored)
    different = [f"{key} is {held[key]} there and {asked[key]} here" for key in asked if asked[key] != held[key]]
    if different:
        raise CheckpointError(f"{found} is of another architecture than the configuration: {'; '.join(different)}")


def _architecture(config: Config) -> dict[str, Any]:
    return {
        "model.backbone": config.model.backbone,
        "model.embedding_size": config.model.embedding_size,
        "data.img_size": list(config.image_hw),
    }
