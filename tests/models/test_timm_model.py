"""Models of timm as backbones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facerec.config import Config, config_from_dict
from facerec.errors import ConfigError, ModelError
from facerec.models.backbones.timm_model import TimmBackbone
from facerec.models.build import build_backbone
from facerec.models.weights import load_backbone_weights
from facerec.registry import BACKBONES

timm = pytest.importorskip("timm", reason="timm is not installed; it is the extra of that name")

_HW = (64, 48)
_VIT = "timm:test_vit"
_CONV = "timm:test_resnet"


def config(backbone: str, **model: object) -> Config:
    return config_from_dict(
        {"model": {"backbone": backbone, "embedding_size": 8, **model}, "data": {"img_size": list(_HW)}}
    )


def build(backbone: str, **model: object) -> TimmBackbone:
    torch.manual_seed(0)
    chosen = config(backbone, **model)
    built = build_backbone(chosen.model, image_hw=chosen.image_hw)
    assert isinstance(built, TimmBackbone)
    return built


@pytest.mark.parametrize("name", [_VIT, _CONV, "timm:mobilenetv3_small_050", "timm:test_efficientnet"])
def test_any_model_gives_embeddings_of_the_asked_length(name: str) -> None:
    backbone = build(name).eval()
    with torch.no_grad():
        embeddings = backbone(torch.rand(2, 3, *_HW) * 2 - 1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = backbone(torch.rand(2, 3, *_HW) * 2 - 1)
    assert embeddings.shape == (2, 8)
    assert embeddings.dtype == rounded.dtype == torch.float32
    assert backbone.name == name


def test_trunk_sees_the_normalisation_that_it_was_designed_for() -> None:
    backbone = build(_CONV).eval()
    seen: list[torch.Tensor] = []
    backbone.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.rand(2, 3, *_HW)
    with torch.no_grad():
        backbone((pixels - 0.5) / 0.5)
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    assert (backbone.mean, backbone.std) == (timm.get_pretrained_cfg("test_resnet").mean, backbone.std)
    torch.testing.assert_close(seen[0], (pixels - mean) / std)


def test_normalisation_is_recorded_with_the_weights_and_in_the_facts() -> None:
    backbone = build("timm:resnet10t")
    assert backbone.facts() == {
        "backbone": "timm:resnet10t",
        "embedding_size": 8,
        "image_hw": [64, 48],
        "input_mean": [0.485, 0.456, 0.406],
        "input_std": [0.229, 0.224, 0.225],
    }
    scale = backbone.state_dict()["input_scale"].flatten()
    torch.testing.assert_close(scale, 0.5 / torch.tensor([0.229, 0.224, 0.225]))


def test_stochastic_depth_and_dropout_are_passed_on() -> None:
    backbone = build(_VIT, drop_path=0.3, dropout=0.2)
    assert backbone.trunk.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    assert backbone.dropout.p == 0.2
    with pytest.raises(ConfigError, match=r"model\.drop_path: timm:vgg11 has no stochastic depth"):
        build("timm:vgg11", drop_path=0.3)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: asked.append(options) or create(name, **options))
    build(_VIT)
    assert [options["pretrained"] for options in asked] == [False]


def test_unknown_models_are_told_with_the_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"timm [\d.]+ has no model 'resnet5O'; near are .*resnet50"):
        build("timm:resnet5O")
    with pytest.raises(ConfigError, match=r"has no model 'hf_hub:a/b'; timm.list_models\(\) lists them"):
        build("timm:hf_hub:a/b")


def test_images_that_a_model_cannot_take_are_refused() -> None:
    with pytest.raises(ModelError, match=r"timm:maxvit_pico_rw_256 cannot take images of 112x112: .*data\.img_size"):
        BACKBONES.entry("timm:maxvit_pico_rw_256").load()(embedding_size=8, image_hw=(112, 112))
    with pytest.raises(ModelError, match=r"\(B, 3, 64, 48\).*\(2, 3, 48, 64\)"):
        build(_CONV)(torch.zeros(2, 3, 48, 64))


def test_a_prefix_without_a_model_is_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown backbone 'timm:'.*timm:NAME"):
        config("timm:")
    assert "timm:resnet18" in BACKBONES
    assert "timn:resnet18" not in BACKBONES
    entry = BACKBONES.entry("timm:resnet18")
    assert (entry.name, entry.model, entry.extra) == ("timm:resnet18", "resnet18", "timm")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"need timm; install the extra 'timm'"):
        build(_CONV)


def test_checkpointing_is_timms_own_and_refused_with_batch_normalisation() -> None:
    assert build(_VIT, grad_checkpointing=True).trunk.grad_checkpointing
    with pytest.raises(ConfigError, match="statistics would be updated twice"):
        build(_CONV, grad_checkpointing=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_of_timms_own_weights_fill_the_trunk(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(5)
    theirs = timm.create_model("test_resnet", pretrained=False).state_dict()
    assert "fc.weight" in theirs
    path = tmp_path / f"timm{suffix}"
    save_file(theirs, path) if suffix == ".safetensors" else torch.save(theirs, path)
    backbone = build(_CONV)
    fc = backbone.fc.weight.clone()
    told = load_backbone_weights(backbone, path)
    assert "trunk only" in told
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in backbone.trunk.state_dict().items())
    assert torch.equal(backbone.fc.weight, fc)


def test_own_checkpoints_load_whole(tmp_path: Path) -> None:
    trained, fresh = build(_VIT), build(_VIT)
    torch.nn.init.normal_(trained.fc.weight)
    save_file(trained.state_dict(), tmp_path / "own.safetensors")
    load_backbone_weights(fresh, tmp_path / "own.safetensors")
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in trained.state_dict().items())
