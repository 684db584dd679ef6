"""Vision transformers: names, attention, left-out tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from facerec.errors import ModelError
from facerec.models.backbones.vit import VisionTransformer, vit_t

_HW = (36, 27)


def build(**options: float) -> VisionTransformer:
    torch.manual_seed(0)
    return vit_t(embedding_size=8, image_hw=_HW, **options)


def test_parameters_have_the_names_and_shapes_of_arcface_torch() -> None:
    with torch.device("meta"):
        backbone = vit_t(embedding_size=512, image_hw=(112, 112))
    expected: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 144, 256),
        "mask_token": (1, 1, 256),
        "patch_embed.proj.weight": (256, 3, 9, 9),
        "patch_embed.proj.bias": (256,),
        "norm.weight": (256,),
        "norm.bias": (256,),
        "feature.0.weight": (256, 36864),
        "feature.1.weight": (256,),
        "feature.1.bias": (256,),
        "feature.2.weight": (512, 256),
        "feature.3.weight": (512,),
        "feature.3.bias": (512,),
    }
    for i in range(12):
        at = f"blocks.{i}"
        expected |= {f"{at}.{norm}.{leaf}": (256,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")}
        expected |= {f"{at}.attn.qkv.weight": (768, 256)}
        expected |= {f"{at}.attn.proj.weight": (256, 256), f"{at}.attn.proj.bias": (256,)}
        expected |= {f"{at}.mlp.fc1.weight": (1024, 256), f"{at}.mlp.fc1.bias": (1024,)}
        expected |= {f"{at}.mlp.fc2.weight": (256, 1024), f"{at}.mlp.fc2.bias": (256,)}
    assert {name: tuple(parameter.shape) for name, parameter in backbone.named_parameters()} == expected


def test_a_block_is_attention_and_a_mlp_each_added_to_its_input() -> None:
    """By hand, with an explicit softmax."""
    block = build().eval().blocks[0]
    x = torch.randn(2, 5, 256)

    def attend(tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = (tokens @ block.attn.qkv.weight.T).view(2, 5, 3, 8, 32).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / 32**0.5).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(2, 5, 256)
        return mixed @ block.attn.proj.weight.T + block.attn.proj.bias

    def widen(tokens: torch.Tensor) -> torch.Tensor:
        inner = (tokens @ block.mlp.fc1.weight.T + block.mlp.fc1.bias).clamp(0, 6)
        return inner @ block.mlp.fc2.weight.T + block.mlp.fc2.bias

    expected = x + attend(nn.functional.layer_norm(x, (256,)))
    expected = expected + widen(nn.functional.layer_norm(expected, (256,)))
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_training_leaves_the_asked_share_of_tokens_out_and_puts_the_learned_one_in_their_places() -> None:
    backbone = build(mask_ratio=0.25, drop_path=0.0)
    seen: list[torch.Size] = []
    backbone.blocks[0].register_forward_hook(lambda _, inputs, output: seen.append(output.shape))
    read: list[torch.Tensor] = []
    backbone.feature[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].view(3, 12, 256)))
    nn.init.constant_(backbone.mask_token, 7.0)
    backbone(torch.randn(3, 3, *_HW))
    assert seen == [(3, 9, 256)]
    left_out = (read[0] == 7.0).all(dim=2)
    assert left_out.sum(1).tolist() == [3, 3, 3]
    assert not torch.equal(left_out[0], left_out[1]) or not torch.equal(left_out[0], left_out[2])


def test_tokens_that_stay_come_back_to_their_places() -> None:
    """Without blocks and positions a token is read where it was, so only the left-out ones differ."""
    backbone = build(mask_ratio=0.25)
    backbone.blocks = nn.ModuleList()
    backbone.norm = nn.Identity()
    read: list[torch.Tensor] = []
    backbone.feature[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].view(4, 12, 256).detach()))
    images = torch.randn(4, 3, *_HW)
    nn.init.constant_(backbone.mask_token, 7.0)
    backbone.train()(images)
    backbone.eval()(images)
    masked, whole = read
    left_out = (masked == 7.0).all(dim=2)
    assert left_out.any()
    torch.testing.assert_close(masked[~left_out], whole[~left_out])


def test_evaluation_sees_every_token() -> None:
    backbone = build(mask_ratio=0.5).eval()
    images = torch.randn(2, 3, *_HW)
    with torch.no_grad():
        assert torch.equal(backbone(images), backbone(images))


def test_stochastic_depth_rises_over_the_blocks() -> None:
    rates = [module.p for module in build(drop_path=0.2).modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


def test_images_smaller_than_a_patch_and_masks_of_everything_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 9 pixels"):
        vit_t(embedding_size=8, image_hw=(8, 112))
    with pytest.raises(ModelError, match=r"mask_ratio 0\.95 leaves none of 12 tokens"):
        build(mask_ratio=0.95)
