"""``timm:NAME``: any image model of the timm library as a backbone, with random weights.

The classifier is replaced by dropout, a linear layer and batch normalisation. Models with a fixed input size are built
for the size that is configured, and each sees pictures in the normalisation that it was designed for: our pictures are
in [-1, 1], so the module rescales them itself, and its files of weights tell the factors (``input_scale`` and
``input_shift``). Nothing is downloaded.

Source: Wightman 2019, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facerec.errors import ConfigError, ModelError, one_line
from facerec.models.backbones.base import Backbone
from facerec.models.precision import embed_float32

__all__ = ["TimmBackbone", "timm_model"]

_SUGGESTIONS = 3
_CANNOT_BUILD = (AssertionError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


class TimmBackbone(Backbone):
    """A trunk from timm and an embedding in place of its classifier.

    Shape: images (B, 3, H, W) to embeddings (B, D), float32.

    Args:
        trunk: maps images in its own normalisation to pooled features (B, F).
        num_features: F.
        mean: per channel, of pictures in [0, 1].
        std: the same.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        *,
        num_features: int,
        embedding_size: int,
        image_hw: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dropout: float,
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        self.mean, self.std = mean, std
        # (x / 2 + 1 / 2 - mean) / std for x in [-1, 1]
        self.register_buffer("input_scale", _per_channel([0.5 / deviation for deviation in std]))
        self.register_buffer("input_shift", _per_channel([(0.5 - m) / s for m, s in zip(mean, std, strict=True)]))
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(num_features, embedding_size)
        self.bn_fc = nn.BatchNorm1d(embedding_size)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        features_BF = self.trunk(images_BCHW * self.input_scale + self.input_shift)
        return embed_float32(self.dropout(features_BF), fc=self.fc, norm=self.bn_fc)

    def facts(self) -> dict[str, Any]:
        """Also the normalisation that the trunk sees."""
        return {**super().facts(), "input_mean": list(self.mean), "input_std": list(self.std)}

    def enable_grad_checkpointing(self) -> None:
        """Let timm checkpoint its blocks.

        Raises:
            ConfigError: the model cannot, or has batch normalisation, whose statistics timm would update twice.
        """
        normalised = any(isinstance(module, _BatchNorm) for module in self.trunk.modules())
        enable = getattr(self.trunk, "set_grad_checkpointing", None)
        if normalised or enable is None:
            reason = "batch normalisation, whose statistics would be updated twice" if normalised else "no such setting"
            raise ConfigError(f"model.grad_checkpointing: {self.name} has {reason}; remove the key")
        try:
            enable(True)
        except AssertionError as error:
            raise ConfigError(f"model.grad_checkpointing: {self.name} has no such setting; remove the key") from error
        self.grad_checkpointing = True

    def adopt(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Take a file of timm's own weights as the trunk; the embedding layers start anew."""
        expected = self.trunk.state_dict()
        if any(name.startswith("trunk.") for name in tensors) or not set(expected) <= set(tensors):
            return dict(tensors), ""
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("trunk.")}
        return {f"trunk.{name}": tensors[name] for name in expected} | own, ", trunk only; the embedding starts anew"


def timm_model(
    *, model: str, embedding_size: int, image_hw: tuple[int, int], dropout: float = 0.0, drop_path: float = 0.0
) -> TimmBackbone:
    """Build the timm model ``model`` with random weights.

    Raises:
        ConfigError: timm is not installed, knows no such model, or the model has no stochastic depth and some is set.
        ModelError: the model cannot take images of this size.
    """
    timm = _import_timm()
    if not timm.is_model(model):
        raise ConfigError(f"timm {timm.__version__} has no model '{model}'{_near_models(timm, model)}")
    design = timm.get_pretrained_cfg(model)
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path > 0 else {}
    if design.fixed_input_size:
        options["img_size"] = image_hw
    try:
        trunk = timm.create_model(model, pretrained=False, num_classes=0, **options)
        num_features = _num_features(trunk, image_hw)
    except _CANNOT_BUILD as error:
        if "drop_path_rate" in str(error):
            raise ConfigError(f"model.drop_path: timm:{model} has no stochastic depth; remove the key") from error
        height, width = image_hw
        reason = one_line(error)
        raise ModelError(f"timm:{model} cannot take images of {height}x{width}: {reason}; set data.img_size") from error
    return TimmBackbone(
        trunk,
        num_features=num_features,
        embedding_size=embedding_size,
        image_hw=image_hw,
        mean=tuple(design.mean),
        std=tuple(design.std),
        dropout=dropout,
    )


def _num_features(trunk: nn.Module, image_hw: tuple[int, int]) -> int:
    """Length of the pooled features, seen by running the trunk once, which also tells whether the size fits."""
    training = trunk.training
    parameter = next(trunk.parameters())
    with torch.no_grad():
        features = trunk.eval()(torch.zeros(1, 3, *image_hw, device=parameter.device))
    trunk.train(training)
    if not isinstance(features, Tensor) or features.dim() != 2:
        raise ValueError("it gives no single vector a picture")
    return features.shape[1]


def _per_channel(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _import_timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ConfigError("backbones named timm:… need timm; install the extra 'timm'") from error
    return timm


def _near_models(timm: Any, model: str) -> str:
    near = difflib.get_close_matches(model, timm.list_models(), n=_SUGGESTIONS, cutoff=0.6)
    return f"; near are {', '.join(near)}" if near else "; timm.list_models() lists them"
