"""Weights of other frameworks: their names, what stands beside them, and which backbone they fit."""

from __future__ import annotations

import os
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facerec.config import Config, config_from_dict
from facerec.errors import CheckpointError
from facerec.models.build import FaceModel, build_model
from facerec.models.weights import load_backbone_weights

_CLASSES = 5


def config(backbone: str = "mobilefacenet", **model: Any) -> Config:
    return config_from_dict({"model": {"backbone": backbone, "embedding_size": 8, **model}, "data": {"img_size": 32}})


def fresh(backbone: str = "mobilefacenet") -> FaceModel:
    return build_model(config(backbone), num_classes=_CLASSES)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    """A model whose statistics have moved, so that forgetting a buffer shows."""
    trained = fresh()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
        trained(torch.rand(4, 3, 32, 32), torch.arange(4))
    return trained


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in first.state_dict().items())


def prefixed(state: dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


class Payload:
    """Leaves a mark where unpickling calls something."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


class OtherResidual(nn.Module):
    """AdaFace's block as its paper's code names it, written anew: normalisation first, parameters in ``res_layer``."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if width_in != width:
            projection = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.shortcut_layer = nn.Sequential(projection, nn.BatchNorm2d(width))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.Conv2d(width_in, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class OtherIR18(nn.Module):
    """AdaFace's IR-18 for pictures of 32x32, BGR."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(*(OtherResidual(widths[i], widths[i + 1], 2 - i % 2) for i in range(8)))
        last = nn.BatchNorm1d(8, affine=False)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * 4, 8), last
        )

    def forward(self, bgr: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(bgr)))


@pytest.fixture(scope="module")
def adaface() -> OtherIR18:
    torch.manual_seed(2)
    network = OtherIR18()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.PReLU | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.0)
    with torch.no_grad():
        network(torch.rand(8, 3, 32, 32))
    return network.eval()


def save_adaface(network: nn.Module, path: Path) -> Path:
    content = {**prefixed(network.state_dict(), "model."), "head.kernel": torch.zeros(8, 5)}
    torch.save({"epoch": 1, "state_dict": content}, path)
    return path


@pytest.mark.parametrize("name", ["ir_18", "iresnet18"])
def test_adafaces_weights_give_its_embeddings_of_rgb_pictures(tmp_path: Path, adaface: OtherIR18, name: str) -> None:
    other = fresh(name).backbone
    told = load_backbone_weights(other, save_adaface(adaface, tmp_path / "adaface.ckpt"))
    rgb = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = adaface(rgb.flip(1))
        torch.testing.assert_close(other.eval()(rgb), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(adaface(rgb), expected, atol=0.1)
    assert "turned from BGR to RGB" in told
    assert "the classifier is not used (head.kernel)" in told
    assert ("ir_ backbone" in told) == (name == "iresnet18")


def test_adafaces_network_trains_on_from_its_weights_as_its_own_does(tmp_path: Path, adaface: OtherIR18) -> None:
    """In training mode too: ir_18 has AdaFace's shortcut, which a normalised projection would not equal."""
    path = save_adaface(adaface, tmp_path / "adaface.ckpt")
    ours = build_model(config("ir_18", dropout=0.0), num_classes=_CLASSES).backbone
    load_backbone_weights(ours, path)
    theirs = OtherIR18()
    theirs.load_state_dict(adaface.state_dict())
    theirs.output_layer[1].p = 0.0
    rgb = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours.train()(rgb), theirs.train()(rgb.flip(1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("mobilefacenet", "iresnet18", "they fit model.backbone: mobilefacenet"),
        ("ir_18", "resnet18", "they fit model.backbone: ir_18"),
    ],
)
def test_wrong_backbones_are_told_the_one_that_fits(tmp_path: Path, name: str, asked: str, told: str) -> None:
    torch.save(fresh(name).backbone.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError) as caught:
        load_backbone_weights(fresh(asked).backbone, tmp_path / "weights.pth")
    assert str(caught.value).endswith(told)
    assert "missing, such as" in str(caught.value)


def test_adafaces_weights_in_a_wrong_backbone_are_told_adafaces_network(tmp_path: Path, adaface: OtherIR18) -> None:
    path = save_adaface(adaface, tmp_path / "adaface.ckpt")
    with pytest.raises(CheckpointError, match=r"they fit model\.backbone: ir_18$"):
        load_backbone_weights(fresh("mobilefacenet").backbone, path)


def test_weights_for_other_dimensions_are_told_their_backbone(tmp_path: Path) -> None:
    other = build_model(config(embedding_size=16), num_classes=_CLASSES)
    torch.save(other.backbone.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"they are of mobilefacenet with another model\.embedding_size"):
        load_backbone_weights(fresh("iresnet18").backbone, tmp_path / "weights.pth")


def test_weights_that_fit_nothing_are_given_no_advice(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"unknown, such as a\.weight \(3,\)$"):
        load_backbone_weights(fresh().backbone, tmp_path / "weights.pth")


@pytest.mark.parametrize("classifier", ["head.weight", "classifier.weight", "kernel", "margin_softmax.weight"])
def test_classifiers_beside_the_weights_are_not_used(tmp_path: Path, model: FaceModel, classifier: str) -> None:
    torch.save({**model.backbone.state_dict(), classifier: torch.zeros(5, 8)}, tmp_path / "weights.pth")
    other = fresh()
    assert f"the classifier is not used ({classifier})" in load_backbone_weights(
        other.backbone, tmp_path / "weights.pth"
    )
    assert same(model.backbone, other.backbone)


class Callback:
    """Stands for a class of a library that is not there when the file is read."""


def claim(patched: pytest.MonkeyPatch, module: str) -> None:
    """Let `Callback` be of ``module`` while a file is written."""
    patched.setattr(Callback, "__module__", module)
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        patched.setitem(sys.modules, ".".join(parts[:end]), types.SimpleNamespace(Callback=Callback))


@pytest.mark.parametrize(
    "module", ["pytorch_lightning.callbacks.model_checkpoint", "lightning.pytorch.callbacks.early"]
)
def test_callbacks_in_lightnings_files_are_left_out_unread(
    tmp_path: Path, model: FaceModel, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    path = tmp_path / "lightning.ckpt"
    with monkeypatch.context() as patched:
        claim(patched, module)
        callback = Callback()
        callback.best_model_score = torch.ones(1)
        content = {"callbacks": {Callback: {"best": 1}}, "kept": callback}
        torch.save({**content, "state_dict": prefixed(model.backbone.state_dict(), "model.")}, path)
    other = fresh()
    load_backbone_weights(other.backbone, path)
    assert same(model.backbone, other.backbone)


def test_code_is_refused_even_beside_callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    with monkeypatch.context() as patched:
        claim(patched, "pytorch_lightning.callbacks")
        torch.save({"callbacks": {Callback: 1}, "evil": Payload(mark), "state_dict": {"w": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="refused and nothing in it was run"):
        load_backbone_weights(fresh().backbone, path)
    assert not mark.exists()
