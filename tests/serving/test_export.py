"""What is exported gives the model's embeddings, for any batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facerec.data.pairs import PairSet
from facerec.errors import ModelError, UsageError
from facerec.evaluation.result import PairResult
from facerec.models.weights import LoadedBackbone, load_backbone
from facerec.serving import export as export_module
from facerec.serving import exporting
from facerec.serving.embedder import Embedder, OnnxBackbone, TorchRunner
from facerec.serving.export import TOLERANCE, export_model, open_exported
from facerec.serving.exporting import export
from facerec.serving.quantise import quantise
from tests.serving.models import SIDE

# torch's exporters warn of their own parts.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> LoadedBackbone:
    return load_backbone(checkpoint)


@pytest.fixture(scope="module")
def graph(loaded: LoadedBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra 'onnx'")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export_model(loaded.backbone, path, format="onnx") <= TOLERANCE
    return path


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_the_onnx_runtime_serves_the_same_embeddings(graph: Path, loaded: LoadedBackbone) -> None:
    by_onnx = Embedder(OnnxBackbone(graph, num_threads=1))
    by_torch = Embedder(TorchRunner(loaded.backbone, torch.device("cpu")))
    for count in (1, 5, 70):
        for flip in (True, False):
            difference = by_onnx.embed(pixels(count), flip=flip) - by_torch.embed(pixels(count), flip=flip)
            assert np.abs(difference).max() <= TOLERANCE


def test_the_graph_names_no_path_of_this_machine(graph: Path) -> None:
    content = graph.read_bytes()
    for place in (Path(__file__).parents[2], graph.parent):
        assert str(place).encode() not in content


def test_a_program_of_torch_export_has_any_batch(loaded: LoadedBackbone, tmp_path: Path) -> None:
    assert export_model(loaded.backbone, tmp_path / "model.pt2", format="torch-export") <= TOLERANCE
    run = open_exported(tmp_path / "model.pt2", format="torch-export")
    for count in (1, 4, 9):
        assert run(np.ascontiguousarray(pixels(count).transpose(0, 3, 1, 2))).shape == (count, 32)


def test_safetensors_are_the_weights(loaded: LoadedBackbone, tmp_path: Path) -> None:
    export_model(loaded.backbone, tmp_path / "model.safetensors", format="safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    for name, tensor in loaded.backbone.state_dict().items():
        assert torch.equal(tensors[name], tensor)


def test_a_file_that_differs_is_refused(
    loaded: LoadedBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    path = tmp_path / "model.pt2"
    with pytest.raises(ModelError, match="differs from the model"):
        export_model(loaded.backbone, path, format="torch-export")
    assert list(tmp_path.iterdir()) == []
    path.write_text("an earlier export")
    with pytest.raises(ModelError, match="nothing was written"):
        export_model(loaded.backbone, path, format="torch-export")
    assert path.read_text() == "an earlier export"


def test_a_file_of_another_accuracy_is_not_left(
    checkpoint: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = exporting._verify

    def verify_wrongly(backbone: Any, pair_set: PairSet, loaded: LoadedBackbone) -> PairResult:
        result = verify(backbone, pair_set, loaded)
        return result if backbone is loaded.backbone else dataclasses.replace(result, accuracy=0.5)

    monkeypatch.setattr(exporting, "_verify", verify_wrongly)
    with pytest.raises(ModelError, match=r"has the accuracy 0\.500000 on people"):
        export(str(checkpoint), tmp_path / "model.pt2", format="torch-export", bins=[str(pairs)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("graph")
def test_a_graph_has_the_accuracy_of_the_model(checkpoint: Path, pairs: Path, tmp_path: Path) -> None:
    result = export(str(checkpoint), tmp_path / "model.onnx", format="onnx", bins=[str(pairs)])
    (entry,) = result.accuracies
    assert entry.accuracy_exported == entry.accuracy_model > 0.6
    assert result.max_difference <= TOLERANCE
    assert result.bytes == (tmp_path / "model.onnx").stat().st_size


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_8_bit_integers_cost_what_is_printed(
    graph: Path, checkpoint: Path, pairs: Path, tmp_path: Path, mode: str
) -> None:
    result = export(
        str(checkpoint),
        tmp_path / "model.onnx",
        format="onnx",
        bins=[str(pairs)],
        quantisation=mode,  # type: ignore[arg-type]
        calibration=str(pairs) if mode == "static" else None,
    )
    assert result.bytes < 0.5 * graph.stat().st_size
    (entry,) = result.accuracies
    assert entry.accuracy_exported >= entry.accuracy_model - 0.05
    assert 0.0 < result.max_difference < 0.2


def test_options_without_effect_are_refused(checkpoint: Path, tmp_path: Path, graph: Path) -> None:
    out = tmp_path / "x"
    with pytest.raises(UsageError, match="for ONNX graphs"):
        export(str(checkpoint), out, format="safetensors", quantisation="dynamic")
    with pytest.raises(UsageError, match="--int8 static alone"):
        export(str(checkpoint), out, format="onnx", quantisation="dynamic", calibration="x.bin")
    with pytest.raises(UsageError, match="needs pictures"):
        export(str(checkpoint), out, format="onnx", quantisation="static")
    assert not out.exists()
    with pytest.raises(UsageError, match="needs pictures"):
        quantise(graph, out, mode="static", image_hw=(SIDE, SIDE))
