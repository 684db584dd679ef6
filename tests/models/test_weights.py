"""Weights from every origin that users have, and the files that must be refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facerec.config import Config, config_from_dict, config_to_dict
from facerec.errors import CheckpointError, ConfigError, MissingPathError
from facerec.fsio import point_link_at, write_manifest
from facerec.models.build import FaceModel, build_model
from facerec.models.weights import load_backbone, load_backbone_weights, load_head_weights

_CLASSES = 5


def config(backbone: str = "mobilefacenet", *, seed: int = 1, **model: Any) -> Config:
    return config_from_dict(
        {
            "seed": seed,
            "model": {"backbone": backbone, "embedding_size": 8, **model},
            "head": {"type": "adaface"},
            "data": {"img_size": 32},
        }
    )


def trained(backbone: str = "mobilefacenet") -> FaceModel:
    """A model whose statistics have moved, so that forgetting a buffer shows."""
    model = build_model(config(backbone, seed=5), num_classes=_CLASSES)
    with torch.no_grad():
        model(torch.rand(4, 3, 32, 32), torch.arange(4))
    return model


def fresh(backbone: str = "mobilefacenet") -> FaceModel:
    return build_model(config(backbone), num_classes=_CLASSES)


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in first.state_dict().items())


def save_checkpoint(folder: Path, model: FaceModel, stored: Config) -> Path:
    folder.mkdir(parents=True)
    save_file(model.backbone.state_dict(), folder / "model.safetensors")
    save_file(model.head.state_dict(), folder / "head.safetensors")
    state = {"config": config_to_dict(stored), "num_classes": _CLASSES}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return trained()


@pytest.fixture
def checkpoint(tmp_path: Path, model: FaceModel) -> Path:
    return save_checkpoint(tmp_path / "run" / "step-00000010", model, config())


def prefixed(state: dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def test_checkpoint_folder_loads_backbone_and_head(checkpoint: Path, model: FaceModel) -> None:
    other = fresh()
    assert not same(model.backbone, other.backbone)
    told = load_backbone_weights(other.backbone, checkpoint)
    assert same(model.backbone, other.backbone)
    assert "mobilefacenet" in told
    assert str(checkpoint) in told
    assert not same(model.head, other.head)
    load_head_weights(other.head, checkpoint)
    assert same(model.head, other.head)


def test_run_folder_means_its_best_checkpoint_else_its_last(checkpoint: Path, model: FaceModel) -> None:
    run = checkpoint.parent
    later = save_checkpoint(run / "step-00000020", fresh(), config())
    point_link_at(run / "last", later.name)
    assert load_backbone(run).path == later
    point_link_at(run / "best", checkpoint.name)
    loaded = load_backbone(run)
    assert loaded.path == checkpoint
    assert same(model.backbone, loaded.backbone)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_bare_state_dicts_load(tmp_path: Path, model: FaceModel, suffix: str) -> None:
    path = tmp_path / f"backbone{suffix}"
    if suffix == ".safetensors":
        save_file(model.backbone.state_dict(), path)
    else:
        torch.save(model.backbone.state_dict(), path)
    other = fresh()
    load_backbone_weights(other.backbone, path)
    assert same(model.backbone, other.backbone)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_the_earlier_framework_load_backbone_and_head(
    tmp_path: Path, model: FaceModel, prefix: str
) -> None:
    scheduler = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD(model.parameters(), lr=0.1), [8, 14])
    content = {
        "epoch": 3,
        "model_state_dict": prefixed(model.state_dict(), prefix),
        "scheduler_state_dict": scheduler.state_dict(),
        "metric": 0.98,
        "patience": 0,
    }
    torch.save(content, tmp_path / "best.pth")
    other = fresh()
    load_backbone_weights(other.backbone, tmp_path)  # its run folder holds best.pth
    load_head_weights(other.head, tmp_path / "best.pth")
    assert same(model.backbone, other.backbone)
    assert same(model.head, other.head)


def test_adaface_heads_without_statistics_start_them_anew(tmp_path: Path, model: FaceModel) -> None:
    content = {"model_state_dict": {"head.weight": model.head.state_dict()["weight"]}}
    torch.save(content, tmp_path / "last.pth")
    other = fresh()
    told = load_head_weights(other.head, tmp_path / "last.pth")
    assert torch.equal(other.head.weight, model.head.weight)
    assert float(other.head.batch_mean) == 20.0
    assert "batch_mean, batch_std start anew" in told


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "model.backbone.", "module.model.", "_orig_mod."])
def test_state_dicts_of_lightning_and_compiled_models_load(tmp_path: Path, model: FaceModel, prefix: str) -> None:
    torch.save({"state_dict": prefixed(model.backbone.state_dict(), prefix)}, tmp_path / "model.pt")
    other = fresh()
    load_backbone_weights(other.backbone, tmp_path / "model.pt")
    assert same(model.backbone, other.backbone)


def test_full_checkpoints_of_arcface_torch_load(tmp_path: Path, model: FaceModel) -> None:
    content = {
        "epoch": 1,
        "state_dict_backbone": model.backbone.state_dict(),
        "state_dict_softmax_fc": {"weight": model.head.state_dict()["weight"]},
    }
    torch.save(content, tmp_path / "checkpoint_gpu_0.pt")
    other = fresh()
    load_backbone_weights(other.backbone, tmp_path / "checkpoint_gpu_0.pt")
    load_head_weights(other.head, tmp_path / "checkpoint_gpu_0.pt")
    assert same(model.backbone, other.backbone)
    assert torch.equal(other.head.weight, model.head.weight)


def test_half_precision_weights_load_as_float32(tmp_path: Path, model: FaceModel) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in model.backbone.state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    other = fresh()
    load_backbone_weights(other.backbone, tmp_path / "half.pth")
    weight = next(other.backbone.parameters())
    assert weight.dtype == torch.float32
    assert torch.equal(weight, next(model.backbone.parameters()).half().float())


def test_counters_that_old_files_lack_are_not_missed(tmp_path: Path, model: FaceModel) -> None:
    state = {n: t for n, t in model.backbone.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    other = fresh()
    load_backbone_weights(other.backbone, tmp_path / "old.pth")
    assert all(torch.equal(other.backbone.state_dict()[name], tensor) for name, tensor in state.items())


def test_resnets_of_the_earlier_framework_load_under_their_own_names(tmp_path: Path) -> None:
    model = trained("resnet18")
    state = {n.replace(".downsample.", ".shortcut."): t for n, t in model.state_dict().items()}
    assert "backbone.layer2.0.shortcut.0.weight" in state
    torch.save({"model_state_dict": state}, tmp_path / "best.pth")
    other = fresh("resnet18")
    load_backbone_weights(other.backbone, tmp_path / "best.pth")
    assert same(model.backbone, other.backbone)


def layer_scales(model: FaceModel) -> FaceModel:
    for name, parameter in model.backbone.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter, std=0.5)
    return model


def test_gates_of_the_earlier_framework_are_converted_and_ours_are_not(tmp_path: Path) -> None:
    """That the conversion keeps the outputs is proved beside the backbone; here, that it is applied where it must."""
    model = layer_scales(trained("fastcontextface"))
    state = model.backbone.state_dict()
    gate, gamma = "stages.2.3.attn.fc.0.weight", state["stages.2.3.gamma"].flatten()

    def gate_from(path: Path) -> tuple[Tensor, str]:
        other = fresh("fastcontextface")
        told = load_backbone_weights(other.backbone, path)
        return other.backbone.state_dict()[gate], told

    theirs = {"model_state_dict": prefixed(state, "backbone.")}
    torch.save(theirs, tmp_path / "theirs.pth")
    loaded, told = gate_from(tmp_path / "theirs.pth")
    assert torch.equal(loaded, state[gate] * gamma)
    assert "converted" in told

    save_file(state, tmp_path / "ours.safetensors")
    torch.save(model.backbone.state_dict(), tmp_path / "ours.pth")
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "ours-whole.pth")
    for name in ("ours.safetensors", "ours.pth", "ours-whole.pth"):
        loaded, told = gate_from(tmp_path / name)
        assert torch.equal(loaded, state[gate]), name
        assert "converted" not in told


def test_loaded_backbone_is_ready_and_knows_its_training(checkpoint: Path, model: FaceModel) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loaded = load_backbone(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.backbone.training
    assert same(model.backbone, loaded.backbone)
    assert loaded.config == config()
    assert loaded.num_classes == _CLASSES
    assert loaded.path == checkpoint
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.backbone(images), model.backbone.eval()(images), rtol=1e-4, atol=1e-5)
    model.train()


def test_configuration_of_the_caller_counts_where_the_architecture_agrees(checkpoint: Path) -> None:
    asked = config_from_dict({**config_to_dict(config()), "seed": 99})
    assert load_backbone(checkpoint, config=asked).config == asked


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (config("fastcontextface"), "model.backbone is mobilefacenet there and fastcontextface here"),
        (config(embedding_size=16), "model.embedding_size is 8 there and 16 here"),
        (
            config_from_dict({**config_to_dict(config()), "data": {"img_size": 48}}),
            r"data.img_size is \[32, 32\] there and \[48, 48\] here",
        ),
    ],
)
def test_configuration_of_another_architecture_is_refused(checkpoint: Path, asked: Config, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        load_backbone(checkpoint, config=asked)


def test_bare_weights_need_a_configuration(tmp_path: Path, model: FaceModel) -> None:
    path = tmp_path / "backbone.pth"
    torch.save(model.backbone.state_dict(), path)
    with pytest.raises(ConfigError, match="without a configuration"):
        load_backbone(path)
    loaded = load_backbone(path, config=config())
    assert same(model.backbone, loaded.backbone)
    assert loaded.num_classes is None


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="do not exist"):
        load_backbone(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        load_backbone(tmp_path)
    (tmp_path / "best").symlink_to("removed")
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "head.safetensors"])
def test_damaged_checkpoint_is_named(checkpoint: Path, name: str) -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} has changed"):
        load_backbone(checkpoint)


def test_state_that_is_no_json_is_named(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("[1", encoding="utf-8")
    write_manifest(checkpoint)
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        load_backbone(checkpoint)


def test_another_architecture_is_refused_with_names_and_shapes_and_changes_nothing(
    tmp_path: Path, model: FaceModel
) -> None:
    torch.save(model.backbone.state_dict(), tmp_path / "mbf.pth")
    other, untouched = fresh("iresnet18"), fresh("iresnet18")
    with pytest.raises(CheckpointError) as caught:
        load_backbone_weights(other.backbone, tmp_path / "mbf.pth")
    told = str(caught.value)
    assert "iresnet18 (8 dimensions, images of 32x32)" in told
    assert "missing, such as conv1.weight (64, 3, 3, 3)" in told
    assert "unknown, such as layers.0.layers.0.weight (128, 3, 3, 3)" in told
    assert same(other, untouched)


def test_another_shape_is_refused_with_both_shapes_and_changes_nothing(tmp_path: Path) -> None:
    large = build_model(config("fastcontextface", embedding_size=16), num_classes=_CLASSES)
    torch.save(large.backbone.state_dict(), tmp_path / "large.pth")
    other, untouched = fresh("fastcontextface"), fresh("fastcontextface")
    with pytest.raises(CheckpointError, match=r"fc\.weight \(16, 384\) where \(8, 384\) is needed"):
        load_backbone_weights(other.backbone, tmp_path / "large.pth")
    assert same(other, untouched)


def test_head_of_another_number_of_classes_is_refused(checkpoint: Path) -> None:
    other = build_model(config(), num_classes=_CLASSES + 1)
    with pytest.raises(CheckpointError, match=r"AdaFace.*weight \(5, 8\) where \(6, 8\) is needed"):
        load_head_weights(other.head, checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, model: FaceModel, value: float) -> None:
    state = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    state["conv_sep.layers.0.weight"][0, 0, 0, 0] = value
    save_file(state, tmp_path / "diverged.safetensors")
    other = fresh()
    untouched = fresh()
    with pytest.raises(CheckpointError, match=r"conv_sep\.layers\.0\.weight holds numbers that are not finite"):
        load_backbone_weights(other.backbone, tmp_path / "diverged.safetensors")
    assert same(other, untouched)


class Payload:
    """Leaves a mark where unpickling calls something."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_file_that_asks_to_run_code_is_refused_and_nothing_is_run(tmp_path: Path, form: str) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    content = {"model_state_dict": {"backbone.fc.weight": torch.zeros(2)}, "epoch": Payload(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"epoch": Payload(mark)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(CheckpointError, match="refused and nothing in it was run") as caught:
        load_backbone_weights(fresh().backbone, path)
    assert "mkdir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have run


def test_archive_that_unpacks_to_more_than_it_is_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}.")
        archive.writestr("bomb/data/0", bytes(1 << 24))
    with pytest.raises(CheckpointError, match="would unpack to 16777"):
        load_backbone_weights(fresh().backbone, path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"these are no weights"),
        ("cut.pth", b"PK\x03\x04 and no more"),
        ("page.safetensors", b"<html>not found</html>"),
        ("empty.safetensors", b""),
        ("weights.onnx", b"\x08\x07"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_backbone_weights(fresh().backbone, tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {}, {"state_dict": {"epoch": 1}}, {3: torch.zeros(3)}])
def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth holds"):
        load_backbone_weights(fresh().backbone, tmp_path / "odd.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damage_anywhere_is_one_sentence_or_harmless(tmp_path: Path, suffix: str) -> None:
    """Whatever byte is wrong, no other error comes out and nothing hangs."""
    head = fresh().head
    path = tmp_path / f"head{suffix}"
    if suffix == ".pth":
        torch.save({"model_state_dict": prefixed(head.state_dict(), "head.")}, path)
    else:
        save_file(head.state_dict(), path)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        place, value = (int(torch.randint(bound, (1,), generator=generator)) for bound in (len(whole), 256))
        damaged[place] = value
        path.write_bytes(damaged if value % 4 else damaged[:place])
        try:
            load_head_weights(head, path)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 60
    assert not any("\n" in sentence for sentence in refused)
