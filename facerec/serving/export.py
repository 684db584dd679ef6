"""A backbone in formats that other programs run, each compared with the model before it counts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facerec.data.transforms import normalise_images
from facerec.errors import ModelError, UsageError
from facerec.fsio import atomic_write_bytes, whole_file
from facerec.models.backbones.base import Backbone
from facerec.serving.embedder import OnnxBackbone
from facerec.serving.weights import weights_as_bytes

__all__ = [
    "TOLERANCE",
    "ExportFormat",
    "export_model",
    "export_onnx",
    "export_torch",
    "max_difference",
    "open_exported",
]

ExportFormat = Literal["onnx", "torch-export", "safetensors"]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
TOLERANCE = 1e-4
"""Largest difference of a component between the embeddings of the model and of what was exported, at length 1."""

_OPSET = 20


class _FromPixels(nn.Module):
    """8-bit RGB pictures (B, 3, H, W) to embeddings before normalisation: what a user of the file would get wrong."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone(normalise_images(pixels))


def export_model(backbone: Backbone, path: Path, *, format: ExportFormat) -> float:  # noqa: A002 - the field's word
    """Write a backbone, read the file again and compare; returns the largest difference of normalised embeddings.

    A file that differs is not left: ``path`` is then as it was.

    Raises:
        UsageError: the extra ``onnx`` is not installed.
        ModelError: the backbone cannot be exported, or the file differs from it by more than `TOLERANCE`.
    """
    if format == "safetensors":
        atomic_write_bytes(path, weights_as_bytes(backbone))
        return 0.0
    write = export_onnx if format == "onnx" else export_torch
    return write(backbone, path)


def export_onnx(backbone: Backbone, path: Path) -> float:
    """Write an ONNX graph with a dynamic batch: input ``pixels`` (B, 3, H, W) uint8, output ``embeddings`` (B, D).

    Raises:
        UsageError, ModelError: see `export_model`.
    """
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise UsageError("an ONNX graph needs the extra 'onnx' (onnx, onnxscript, onnxruntime)") from error
    del onnxscript
    program = cast(
        "Any",
        _quietly(
            lambda model, example: torch.onnx.export(
                model,
                (example,),
                input_names=["pixels"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            ),
            backbone,
        ),
    )
    graph: onnx.ModelProto = program.model_proto
    # Stack traces of this machine would otherwise stand in every node.
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    return _write_checked(backbone, path, graph.SerializeToString(), format="onnx")


def export_torch(backbone: Backbone, path: Path) -> float:
    """Write a ``torch.export`` program (``.pt2``) with a dynamic batch; input and output as in `export_onnx`.

    Raises:
        ModelError: see `export_model`.
    """
    program = _quietly(
        lambda model, example: torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        ),
        backbone,
    )
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return _write_checked(backbone, path, stream.getvalue(), format="torch-export")


def _quietly(export: Any, backbone: Backbone) -> Any:
    """Export in evaluation mode on the CPU; what torch says about its own parts is not for users."""
    model = _FromPixels(backbone.cpu().eval())
    # Two pictures: torch takes a batch of one for a constant.
    example = torch.zeros(2, 3, *backbone.image_hw, dtype=torch.uint8)
    try:
        with warnings.catch_warnings(action="ignore"), torch.inference_mode(mode=False), torch.no_grad():
            return export(model, example)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"{backbone.name} cannot be exported: {reason}") from error


def open_exported(path: Path, *, format: ExportFormat) -> Run:  # noqa: A002
    """Load an exported graph; the result takes pictures (B, 3, H, W) uint8 and gives embeddings (B, D) float32."""
    if format == "onnx":
        return OnnxBackbone(path).run
    with warnings.catch_warnings(action="ignore"):
        module = torch.export.load(path).module()

    def run(pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            embeddings: Tensor = module(torch.from_numpy(pixels_BCHW))
        return embeddings.numpy()

    return run


def max_difference(first_BD: NDArray[np.floating[Any]], second_BD: NDArray[np.floating[Any]]) -> float:
    """Largest difference of a component of embeddings at length 1."""
    a, b = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (first_BD, second_BD))
    return float(np.abs(a - b).max())


def _write_checked(backbone: Backbone, path: Path, content: bytes, *, format: ExportFormat) -> float:  # noqa: A002
    with whole_file(path) as draft:
        draft.write_bytes(content)
        difference = _compare(backbone, draft, format=format)
        if not difference <= TOLERANCE:
            raise ModelError(
                f"what was exported as {format} differs from the model by {difference:.2g} (at most {TOLERANCE:g}); "
                "nothing was written"
            )
    return difference


def _compare(backbone: Backbone, path: Path, *, format: ExportFormat) -> float:  # noqa: A002
    """Compare on noise in batches of several sizes, so that a batch that was frozen in shows."""
    run = open_exported(path, format=format)
    worst = 0.0
    for count in (1, 3, 8):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3, *backbone.image_hw), np.uint8)
        with torch.no_grad():
            expected = backbone(normalise_images(torch.from_numpy(pixels))).numpy()
        worst = max(worst, max_difference(expected, run(pixels)))
    return worst
