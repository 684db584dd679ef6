"""What every backbone is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from facerec.errors import ConfigError, ModelError
from facerec.models.backbones.fusing import can_fuse, fuse_modules

__all__ = ["Backbone", "halve_up"]


class Backbone(nn.Module):
    """Aligned pictures in, embeddings out.

    ``forward`` takes images (B, 3, H, W), floating point, RGB in [-1, 1], in either memory format, and returns
    embeddings (B, ``embedding_size``) in float32, not normalised.
    """

    supports_grad_checkpointing = False
    """Whether its blocks can compute their activations again instead of keeping them."""

    def __init__(self, *, embedding_size: int, image_hw: tuple[int, int]) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        """Length of the embedding."""
        self.image_hw = image_hw
        """Height and width of the pictures, in pixels."""
        self.name = type(self).__name__
        """The registered name, where the backbone was built by it."""
        self.grad_checkpointing = False
        """Whether activations are computed again in the backward pass."""

    def enable_grad_checkpointing(self) -> None:
        """Compute the activations of blocks again in the backward pass: less memory, about a third more time.

        Raises:
            ConfigError: this backbone cannot.
        """
        if not self.supports_grad_checkpointing:
            raise ConfigError(f"model.grad_checkpointing: {self.name} has no gradient checkpointing; remove the key")
        self.grad_checkpointing = True

    def fuse(self) -> Self:
        """Fold what folds for use: normalisations into convolutions, parallel branches into one kernel; in place.

        The backbone is then in evaluation mode for good: parameter names differ from a trained one's, so weights are
        loaded before. Backbones without such parts stay as they are. Embeddings agree to float32 rounding.
        """
        fuse_modules(self)
        return self

    def deployed(self) -> Self:
        """The network to use: a fused copy where something folds, else this very one."""
        return copy.deepcopy(self).fuse() if can_fuse(self) else self

    def facts(self) -> dict[str, Any]:
        """What a record of a run should say of it, as plain data."""
        return {"backbone": self.name, "embedding_size": self.embedding_size, "image_hw": list(self.image_hw)}

    def adopt(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Bring a foreign file's weights to this backbone's names; the second result tells what was changed."""
        return dict(tensors), ""

    def check_images(self, images_BCHW: Tensor) -> None:
        """Refuse pictures of another size than the layers were built for.

        Raises:
            ModelError: the shape is not (B, 3, H, W) with the H and W of `image_hw`.
        """
        if images_BCHW.dim() != 4 or tuple(images_BCHW.shape[1:]) != (3, *self.image_hw):
            height, width = self.image_hw
            raise ModelError(
                f"{self.name} was built for images of shape (B, 3, {height}, {width}) and got "
                f"{tuple(images_BCHW.shape)}; scale the images or set data.img_size"
            )


def halve_up(side_hw: tuple[int, int], times: int) -> tuple[int, int]:
    """Height and width after ``times`` 3x3 convolutions of stride 2 and padding 1: halves, rounded up."""
    height, width = side_hw
    return -(-height // 2**times), -(-width // 2**times)
