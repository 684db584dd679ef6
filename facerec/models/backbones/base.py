"""What every backbone is."""

from __future__ import annotations

from torch import Tensor, nn

from facerec.errors import ModelError

__all__ = ["Backbone", "halve_up"]


class Backbone(nn.Module):
    """Aligned pictures in, embeddings out.

    ``forward`` takes images (B, 3, H, W), floating point, RGB in [-1, 1], in either memory format, and returns
    embeddings (B, ``embedding_size``) in float32, not normalised.
    """

    def __init__(self, *, embedding_size: int, image_hw: tuple[int, int]) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        """Length of the embedding."""
        self.image_hw = image_hw
        """Height and width of the pictures, in pixels."""
        self.name = type(self).__name__
        """The registered name, where the backbone was built by it."""

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
