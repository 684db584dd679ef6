"""Gradient checkpointing changes memory, not numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from facerec.config import config_from_dict
from facerec.errors import ConfigError
from facerec.models.backbones.base import Backbone
from facerec.models.backbones.checkpointing import run_block
from facerec.models.build import build_backbone
from facerec.registry import BACKBONES

_SUPPORTED = ("iresnet_mini", "ir_18", "vit_t")


def build(name: str, **model: object) -> Backbone:
    torch.manual_seed(0)
    config = config_from_dict({"model": {"backbone": name, "embedding_size": 8, **model}, "data": {"img_size": 36}})
    return build_backbone(config.model, image_hw=(36, 36))


def pair(name: str) -> tuple[Backbone, Backbone]:
    plain = build(name)
    checkpointed = copy.deepcopy(plain)
    checkpointed.enable_grad_checkpointing()
    return plain, checkpointed


def step(backbone: Backbone) -> tuple[Tensor, dict[str, Tensor]]:
    """One forward and backward pass, with the same random numbers each time."""
    torch.manual_seed(3)
    images, weights = torch.rand(4, 3, 36, 36) * 2 - 1, torch.randn(4, 8)
    torch.manual_seed(4)
    embeddings = backbone.train()(images)
    (embeddings * weights).sum().backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    return embeddings.detach(), gradients


@pytest.mark.parametrize("name", _SUPPORTED)
def test_embeddings_gradients_and_running_statistics_are_the_same(name: str) -> None:
    """The statistics too: the second pass through a block must not count the batch twice."""
    plain, checkpointed = pair(name)
    before = {n: t.clone() for n, t in plain.named_buffers()}
    embeddings, gradients = step(plain)
    again, others = step(checkpointed)
    assert torch.equal(again, embeddings)
    assert gradients.keys() == others.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(others[parameter], gradient, rtol=0, atol=0, msg=parameter)
    buffers = dict(checkpointed.named_buffers())
    assert all(torch.equal(buffers[n], t) for n, t in plain.named_buffers())
    assert any(not torch.equal(buffers[n], t) for n, t in before.items())


def test_plain_checkpointing_would_count_a_batch_twice() -> None:
    """The negative control of the test above."""
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    naive = copy.deepcopy(block)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    run_block(block, x, recompute=True).sum().backward()
    torch.utils.checkpoint.checkpoint(naive, x, use_reentrant=False).sum().backward()
    assert int(block[1].num_batches_tracked) == 1
    assert int(naive[1].num_batches_tracked) == 2
    assert not torch.equal(block[1].running_mean, naive[1].running_mean)


def test_activations_are_not_kept() -> None:
    def kept(backbone: Backbone) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            backbone(torch.rand(4, 3, 36, 36))
        return sum(sizes)

    plain, checkpointed = pair("vit_t")
    assert kept(checkpointed) < 0.7 * kept(plain)


def test_evaluation_recomputes_nothing() -> None:
    _, backbone = pair("iresnet_mini")
    calls: list[int] = []
    backbone.layer1[0].register_forward_pre_hook(lambda *_: calls.append(1))
    backbone.eval()(torch.rand(2, 3, 36, 36)).sum().backward()
    assert len(calls) == 1
    step(backbone)
    assert len(calls) == 3


def test_the_key_switches_it_on() -> None:
    assert not build("iresnet_mini").grad_checkpointing
    assert build("iresnet_mini", grad_checkpointing=True).grad_checkpointing


@pytest.mark.parametrize("name", ["mobilefacenet", "resnet18", "fastcontextface"])
def test_backbones_without_it_refuse_the_key(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.grad_checkpointing: {name} has no gradient checkpointing"):
        build(name, grad_checkpointing=True)


def test_every_backbone_says_whether_it_can() -> None:
    able = {entry.name for entry in BACKBONES if entry.name.startswith(("iresnet", "ir_", "vit_"))}
    for entry in BACKBONES:
        with torch.device("meta"):
            backbone = entry.load()(embedding_size=8, image_hw=(36, 36))
        assert backbone.supports_grad_checkpointing == (entry.name in able), entry.name
