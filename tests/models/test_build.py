"""From a configuration to a model: seeds, settings, number of classes, starting weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facerec.config import Config, config_from_dict
from facerec.config.schema import HeadConfig
from facerec.errors import ConfigError, MissingPathError, ModelError
from facerec.models.backbones.iresnet import IResNet
from facerec.models.build import FaceModel, build_backbone, build_head, build_model
from facerec.models.classification import build_classification_loss
from facerec.models.heads.adaface import AdaFace
from facerec.models.heads.arcface import ArcFace


def config(**sections: dict[str, object]) -> Config:
    small = {
        "model": {"backbone": "mobilefacenet", "embedding_size": 8},
        "data": {"img_size": 32},
    }
    merged = {name: {**small.get(name, {}), **sections.get(name, {})} for name in {*small, *sections} - {"seed"}}
    return config_from_dict({**merged, **({"seed": sections["seed"]} if "seed" in sections else {})})


def state(model: FaceModel) -> dict[str, torch.Tensor]:
    return model.state_dict()


def test_model_gives_embeddings_or_logits_and_embeddings() -> None:
    model = build_model(config(), num_classes=5)
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 4, 2])
    embeddings = model(images)
    assert embeddings.shape == (3, 8)
    logits, again = model(images, labels)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(again, embeddings)
    torch.testing.assert_close(logits, model.head(embeddings, labels))


def test_model_is_built_as_configured() -> None:
    built = build_model(
        config(
            model={"backbone": "iresnet18", "dropout": 0.3},
            data={"img_size": [32, 48]},
            head={"type": "arcface", "margin": 0.3, "scale": 30.0, "gradient": "exact", "easy_margin": True},
        ),
        num_classes=7,
    )
    assert isinstance(built.backbone, IResNet)
    assert (built.backbone.name, built.backbone.image_hw, built.backbone.dropout.p) == ("iresnet18", (32, 48), 0.3)
    assert isinstance(built.head, ArcFace)
    assert (built.head.margin, built.head.scale) == (0.3, 30.0)
    assert (built.head.gradient, built.head.easy_margin) == ("exact", True)
    assert built.head.weight.shape == (7, 8)


def test_settings_that_are_left_open_take_the_published_values() -> None:
    head = build_head(config(head={"type": "adaface"}).head, embedding_size=8, num_classes=3)
    assert isinstance(head, AdaFace)
    assert (head.margin, head.h, head.t_alpha, head.scale) == (0.4, 0.333, 0.01, 64.0)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = state(build_model(config(seed=3), num_classes=5))
    torch.manual_seed(2)
    second = state(build_model(config(seed=3), num_classes=5))
    other = state(build_model(config(seed=4), num_classes=5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["backbone.layers.0.layers.0.weight"], other["backbone.layers.0.layers.0.weight"])


def test_generator_of_the_caller_stays_as_it_is() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_model(config(), num_classes=5)
    assert torch.equal(torch.rand(3), expected)


def test_backbone_starts_the_same_with_every_head() -> None:
    arc = state(build_model(config(head={"type": "arcface"}), num_classes=5))
    ada = state(build_model(config(head={"type": "adaface"}), num_classes=50))
    assert all(torch.equal(arc[name], ada[name]) for name in arc if name.startswith("backbone."))


def test_number_of_classes_comes_from_the_configuration_or_the_data() -> None:
    assert build_model(config(head={"num_classes": 6})).head.weight.shape[0] == 6
    assert build_model(config(head={"num_classes": 6}), num_classes=6).head.weight.shape[0] == 6
    with pytest.raises(ConfigError, match="is not set"):
        build_model(config())
    with pytest.raises(ConfigError, match=r"head\.num_classes: is 6, but the training set has 5 identities"):
        build_model(config(head={"num_classes": 6}), num_classes=5)


def test_pretrained_weights_are_the_start_of_the_backbone_and_not_of_the_head(tmp_path: Path) -> None:
    trained = build_model(config(seed=9), num_classes=5)
    save_file(trained.backbone.state_dict(), tmp_path / "trained.safetensors")
    plain = state(build_model(config(), num_classes=5))
    path = str(tmp_path / "trained.safetensors")
    started = build_model(config(model={"pretrained": path}), num_classes=5)
    assert all(torch.equal(t, started.backbone.state_dict()[n]) for n, t in trained.backbone.state_dict().items())
    assert torch.equal(started.head.weight, plain["head.weight"])


@pytest.mark.parametrize("seed", [2**63 - 1, 2**63, 2**64 - 1, 2**64 + 5, 2**70])
def test_a_seed_of_any_size_builds_and_samples(seed: int) -> None:
    model = build_model(config(seed=seed), num_classes=40)
    again = build_model(config(seed=seed % 2**64), num_classes=40)
    assert torch.equal(model.head.weight, again.head.weight)
    loss = build_classification_loss(model.head, HeadConfig(sample_rate=0.5), seed=seed)
    output = loss(torch.rand(3, 8), torch.tensor([0, 39, 7]), step=1)
    assert torch.isfinite(output.loss)


def test_pretrained_weights_that_are_not_there_are_an_error() -> None:
    with pytest.raises(MissingPathError, match=r"nowhere\.pth"):
        build_model(config(model={"pretrained": "nowhere.pth"}), num_classes=5)


def test_pretrained_false_means_none() -> None:
    assert torch.equal(
        build_model(config(model={"pretrained": False}), num_classes=5).head.weight,
        build_model(config(), num_classes=5).head.weight,
    )


def test_images_too_small_for_the_backbone_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 16 pixels"):
        build_backbone(config(model={"backbone": "fastcontextface"}).model, image_hw=(8, 8))
