"""One suite over every registered backbone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from facerec.errors import ModelError
from facerec.models.backbones.base import Backbone
from facerec.models.measure import measure
from facerec.models.sizes import EMBEDDING_SIZE, IMAGE_HW, SIZES
from facerec.registry import BACKBONES, Entry

_HW = (32, 48)
_DIM = 8
# Embeddings are normalised to a deviation of 1; float32 through dozens of random layers is good to a few thousandths.
_CLOSE = 1e-2
# The same blocks as their smaller siblings, only more of them: their shapes are checked without computing.
_DEEP = (
    *("iresnet34", "iresnet50", "iresnet100", "iresnet200", "ir_34", "ir_50", "ir_101", "resnet34", "resnet101"),
    *("vit_s", "vit_b", "mobilefacenet_large"),
)

every_entry = pytest.mark.parametrize("entry", list(BACKBONES), ids=lambda entry: entry.name)
every_computed_entry = pytest.mark.parametrize(
    "entry", [entry for entry in BACKBONES if entry.name not in _DEEP], ids=lambda entry: entry.name
)


def build(entry: Entry, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    return entry.load()(**{"embedding_size": _DIM, "image_hw": _HW, **settings})


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, *_HW, generator=torch.Generator().manual_seed(1)) * 2 - 1


def settled(entry: Entry) -> Backbone:
    """In evaluation mode, with batch statistics of real activations: without, deep random networks overflow."""
    backbone = build(entry)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # a plain average, so that one batch sets it
    with torch.no_grad():
        backbone(images())
    return backbone.eval()


@every_entry
def test_builder_takes_exactly_the_registered_options_with_their_defaults(entry: Entry) -> None:
    parameters = inspect.signature(entry.load()).parameters
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
    optional = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert optional == entry.options
    assert set(parameters) - set(optional) == {"embedding_size", "image_hw"}


@every_entry
def test_listed_size_is_the_measured_one(entry: Entry) -> None:
    with torch.device("meta"):
        backbone = entry.load()(embedding_size=EMBEDDING_SIZE, image_hw=IMAGE_HW)
    size = measure(backbone, image_hw=IMAGE_HW)
    assert SIZES[entry.name] == (size.params, size.macs)


@pytest.mark.parametrize("name", _DEEP)
def test_deep_siblings_give_embeddings_of_the_same_shape(name: str) -> None:
    with torch.device("meta"):
        embeddings = build(BACKBONES.entry(name))(torch.zeros(4, 3, *_HW))
    assert embeddings.shape == (4, _DIM)
    assert embeddings.dtype == torch.float32


@every_computed_entry
def test_backbone_keeps_the_contract(entry: Entry) -> None:
    """One built network serves all the checks below: building the large ones is the slow part."""
    backbone = settled(entry)
    batch = images()
    with torch.no_grad():
        embeddings = backbone(batch)
    assert backbone.embedding_size == _DIM
    assert backbone.image_hw == _HW
    assert embeddings.shape == (4, _DIM)
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()
    # Different pictures have different embeddings, so that the comparisons below can fail.
    spread = (embeddings - embeddings.mean(0)).abs().max()
    assert spread > 0.3
    check_batch_composition(backbone, batch, embeddings)
    check_channels_last(backbone, batch, embeddings)
    check_autocast(backbone, batch, embeddings)
    check_safetensors(backbone, entry, batch, embeddings)


def check_batch_composition(backbone: Backbone, batch: torch.Tensor, embeddings: torch.Tensor) -> None:
    with torch.no_grad():
        alone = torch.cat([backbone(batch[i : i + 1]) for i in range(len(batch))])
    torch.testing.assert_close(alone, embeddings, rtol=0, atol=_CLOSE)


def check_channels_last(backbone: Backbone, batch: torch.Tensor, embeddings: torch.Tensor) -> None:
    backbone.to(memory_format=torch.channels_last)
    with torch.no_grad():
        other = backbone(batch.contiguous(memory_format=torch.channels_last))
        mixed = backbone(batch)
    torch.testing.assert_close(other, embeddings, rtol=0, atol=_CLOSE)
    torch.testing.assert_close(mixed, embeddings, rtol=0, atol=_CLOSE)


def check_autocast(backbone: Backbone, batch: torch.Tensor, embeddings: torch.Tensor) -> None:
    """Under autocast the convolutions run in bfloat16, the last linear layer and normalisation in float32."""
    conv = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    last = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm1d)][-1]
    linear = [m for m in backbone.modules() if isinstance(m, nn.Linear) and m.out_features == _DIM][-1]
    seen: dict[nn.Module, torch.dtype] = {}
    hooks = [
        module.register_forward_hook(lambda m, _, output: seen.update({m: output.dtype}))
        for module in (conv, last, linear)
    ]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = backbone(batch)
    for hook in hooks:
        hook.remove()
    assert seen == {conv: torch.bfloat16, linear: torch.float32, last: torch.float32}
    assert rounded.dtype == torch.float32
    assert rounded.isfinite().all()
    assert not torch.equal(rounded, embeddings)


def check_safetensors(backbone: Backbone, entry: Entry, batch: torch.Tensor, embeddings: torch.Tensor) -> None:
    stored = load(save({name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}))
    copy = entry.load()(embedding_size=_DIM, image_hw=_HW)
    copy.load_state_dict(stored)
    with torch.no_grad():
        torch.testing.assert_close(copy.eval()(batch), embeddings, rtol=0, atol=_CLOSE)


@every_computed_entry
def test_every_trainable_parameter_gets_a_gradient(entry: Entry) -> None:
    backbone = build(entry)
    torch.manual_seed(3)
    (backbone(images()) * torch.randn(4, _DIM)).sum().backward()
    silent = [
        name for name, p in backbone.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert silent == []


@every_computed_entry
def test_double_computes_in_double(entry: Entry) -> None:
    backbone = settled(entry).double()
    with torch.no_grad():
        assert backbone(images().double()).dtype == torch.float64


@pytest.mark.parametrize("entry", [e for e in BACKBONES if "dropout" in e.options], ids=lambda entry: entry.name)
def test_dropout_sits_before_the_last_layer_and_has_the_asked_rate(entry: Entry) -> None:
    with torch.device("meta"):
        backbone = build(entry, dropout=0.25)
    rates = [module.p for module in backbone.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.25]


@pytest.mark.parametrize(
    "entry", [e for e in BACKBONES if not e.name.startswith("resnet")], ids=lambda entry: entry.name
)
def test_images_of_another_size_are_refused_with_both_sizes(entry: Entry) -> None:
    with torch.device("meta"):
        backbone = build(entry)
        with pytest.raises(ModelError, match=r"\(B, 3, 32, 48\).*\(2, 3, 112, 112\)"):
            backbone(torch.zeros(2, 3, 112, 112))
