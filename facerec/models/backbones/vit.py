"""Vision transformers as face recognition uses them: patches of 9 pixels, no class token, and every token read out.

The embedding comes from all tokens in order (12 x 12 of them at 112x112), so that the place of each is known to the
last layers. While training, a share of the tokens is left out of the transformer and one learned token stands in their
places (`mask_ratio`): regularisation that also saves time.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929; shape, initial values and parameter names of arcface_torch's
``backbones/vit.py``, so that its weight files load. Attention is torch's fused kernel, which computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from facerec.errors import ModelError
from facerec.models.backbones.base import Backbone
from facerec.models.backbones.checkpointing import run_block
from facerec.models.precision import embed_float32

__all__ = ["VisionTransformer", "vit_b", "vit_s", "vit_t"]

_PATCH = 9
_HEADS = 8
_MLP_RATIO = 4
_INIT_STD = 0.02
_HEAD_EPS = 2e-5


class _Attention(nn.Module):
    """Scaled dot-product attention of ``_HEADS`` heads; queries, keys and values have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        batch, tokens, width = x_BTC.shape
        qkv_3BHTE = self.qkv(x_BTC).view(batch, tokens, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4)
        query_BHTE, key_BHTE, value_BHTE = qkv_3BHTE.unbind(0)
        mixed_BHTE = F.scaled_dot_product_attention(query_BHTE, key_BHTE, value_BHTE)
        y_BTC: Tensor = self.proj(mixed_BHTE.transpose(1, 2).reshape(batch, tokens, width))
        return y_BTC


class _Mlp(nn.Module):
    """Two linear layers with a ReLU6 between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _MLP_RATIO * width)
        self.fc2 = nn.Linear(_MLP_RATIO * width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        y_BTC: Tensor = self.fc2(F.relu6(self.fc1(x_BTC)))
        return y_BTC


class _Block(nn.Module):
    """Attention, then the MLP; each behind a layer normalisation, each added to its input."""

    def __init__(self, width: int, *, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.drop_path(self.attn(self.norm1(x_BTC)))
        y_BTC: Tensor = x_BTC + self.drop_path(self.mlp(self.norm2(x_BTC)))
        return y_BTC


class _PatchEmbed(nn.Module):
    """One token for each whole patch; pixels that fill no patch at the right and lower border are not seen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, _PATCH, stride=_PATCH)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        tokens_BTC: Tensor = self.proj(images_BCHW).flatten(2).transpose(1, 2)
        return tokens_BTC


class VisionTransformer(Backbone):
    """A transformer over 9x9 patches.

    Shape: images (B, 3, H, W), H and W at least 9, to embeddings (B, D), float32.

    Args:
        width: length C of a token; a multiple of 8.
        depth: number of blocks.
        drop_path: rate of stochastic depth of the last block, in [0, 1); it rises linearly from 0.
        mask_ratio: share of the tokens that training leaves out, in [0, 1).

    Raises:
        ModelError: the pictures are too small, or ``mask_ratio`` would leave no token.
    """

    supports_grad_checkpointing = True

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        embedding_size: int,
        image_hw: tuple[int, int],
        drop_path: float,
        mask_ratio: float,
    ) -> None:
        super().__init__(embedding_size=embedding_size, image_hw=image_hw)
        if min(image_hw) < _PATCH:
            raise ModelError(f"a vit needs images of at least {_PATCH} pixels a side, not {image_hw}")
        self.num_tokens = (image_hw[0] // _PATCH) * (image_hw[1] // _PATCH)
        self.num_kept = int(self.num_tokens * (1.0 - mask_ratio))
        if self.num_kept < 1:
            raise ModelError(f"model.mask_ratio {mask_ratio:g} leaves none of {self.num_tokens} tokens; lower it")
        self.patch_embed = _PatchEmbed(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        rates = torch.linspace(0.0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(_Block(width, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * self.num_tokens, width, bias=False),
            nn.BatchNorm1d(width, eps=_HEAD_EPS),
            nn.Linear(width, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size, eps=_HEAD_EPS),
        )
        self._start()

    def _start(self) -> None:
        nn.init.normal_(self.mask_token, std=_INIT_STD)
        nn.init.trunc_normal_(self.pos_embed, std=_INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W)."""
        self.check_images(images_BCHW)
        x_BTC = self.patch_embed(images_BCHW) + self.pos_embed
        order_BT: Tensor | None = None
        if self.training and self.num_kept < self.num_tokens:
            order_BT = torch.rand(x_BTC.shape[:2], device=x_BTC.device).argsort(dim=1)
            x_BTC = _pick(x_BTC, order_BT[:, : self.num_kept])
        for block in self.blocks:
            x_BTC = run_block(block, x_BTC, recompute=self.grad_checkpointing)
        x_BTC = self.norm(x_BTC)
        if order_BT is not None:
            x_BTC = self._put_back(x_BTC, order_BT)
        reduce, norm, fc, last = self.feature
        features_BC = embed_float32(x_BTC.flatten(1), fc=reduce, norm=norm)  # type: ignore[arg-type]
        return embed_float32(features_BC, fc=fc, norm=last)  # type: ignore[arg-type]

    def _put_back(self, kept_BKC: Tensor, order_BT: Tensor) -> Tensor:
        """All tokens in their places, the learned one where a token was left out."""
        batch, kept, width = kept_BKC.shape
        masks_BMC = self.mask_token.to(kept_BKC.dtype).expand(batch, self.num_tokens - kept, width)
        return _pick(torch.cat([kept_BKC, masks_BMC], dim=1), order_BT.argsort(dim=1))


def _pick(x_BTC: Tensor, index_BK: Tensor) -> Tensor:
    """Tokens by their places, of each picture its own; (B, K, C)."""
    return x_BTC.gather(1, index_BK[:, :, None].expand(-1, -1, x_BTC.shape[2]))


def vit_t(
    *, embedding_size: int, image_hw: tuple[int, int], drop_path: float = 0.1, mask_ratio: float = 0.1
) -> VisionTransformer:
    """Width 256, 12 blocks."""
    return VisionTransformer(
        width=256,
        depth=12,
        embedding_size=embedding_size,
        image_hw=image_hw,
        drop_path=drop_path,
        mask_ratio=mask_ratio,
    )


def vit_s(
    *, embedding_size: int, image_hw: tuple[int, int], drop_path: float = 0.1, mask_ratio: float = 0.1
) -> VisionTransformer:
    """Width 512, 12 blocks."""
    return VisionTransformer(
        width=512,
        depth=12,
        embedding_size=embedding_size,
        image_hw=image_hw,
        drop_path=drop_path,
        mask_ratio=mask_ratio,
    )


def vit_b(
    *, embedding_size: int, image_hw: tuple[int, int], drop_path: float = 0.1, mask_ratio: float = 0.1
) -> VisionTransformer:
    """Width 512, 24 blocks."""
    return VisionTransformer(
        width=512,
        depth=24,
        embedding_size=embedding_size,
        image_hw=image_hw,
        drop_path=drop_path,
        mask_ratio=mask_ratio,
    )
