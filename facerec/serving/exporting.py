"""A whole export: a model in, a file and what is known of its accuracy out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facerec.config.load import load_config
from facerec.data.pairs import PairSet, read_pairs
from facerec.data.transforms import normalise_images
from facerec.errors import ModelError, UsageError
from facerec.evaluation.result import PairResult
from facerec.evaluation.suites import evaluate_configured
from facerec.fsio import whole_file
from facerec.models.backbones.base import Backbone
from facerec.models.weights import LoadedBackbone, load_backbone
from facerec.serving.export import ExportFormat, export_model, max_difference, open_exported
from facerec.serving.locate import locate_model
from facerec.serving.quantise import Quantisation, quantise

__all__ = ["Export", "SetAccuracy", "export"]


@dataclass(frozen=True, kw_only=True)
class SetAccuracy:
    """A model and what was exported of it, on one pair set."""

    pair_set: str
    sha256: str
    accuracy_model: float
    """10-fold accuracy."""
    accuracy_exported: float
    tar_model: float
    """True accept rate at FAR 1e-3."""
    tar_exported: float


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written."""

    path: str
    format: str
    quantisation: str | None
    bytes: int
    max_difference: float
    """Largest difference of a component between embeddings of length 1."""
    accuracies: tuple[SetAccuracy, ...]


def export(
    model: str,
    out: Path,
    *,
    format: ExportFormat,  # noqa: A002 - the field's word
    config_path: str | None = None,
    bins: Sequence[str] = (),
    quantisation: Quantisation | None = None,
    calibration: str | None = None,
) -> Export:
    """Export a model and compare the file with it.

    Args:
        model: As `locate_model` takes it.
        out: The file to write.
        format: What to write.
        config_path: Configuration of weights that carry none.
        bins: Pair sets on which both are verified.
        quantisation: 8-bit integers; for ONNX alone.
        calibration: Pair set whose pictures give the ranges of a static quantisation.

    Raises:
        UsageError: the options do not fit each other, or an extra is missing.
        ModelError: without quantisation, the file differs from the model in embeddings or accuracy; it is not left.
        FacerecError: as reading models and pair sets says.
    """
    if quantisation is not None and format != "onnx":
        raise UsageError("quantisation is for ONNX graphs; give --format onnx")
    if calibration is not None and quantisation != "static":
        raise UsageError("--calibration has an effect with --int8 static alone")
    if quantisation == "static" and calibration is None:
        raise UsageError("a static quantisation needs pictures to find the ranges on; give --calibration FILE.bin")
    loaded = load_backbone(locate_model(model), config=load_config(config_path) if config_path else None)
    pair_sets = [read_pairs(path) for path in bins]
    with whole_file(out) as draft:
        difference = export_model(loaded.backbone, draft, format=format)
        if quantisation is not None:
            images = read_pairs(calibration).images if calibration else ()
            quantise(draft, draft, mode=quantisation, calibration=images, image_hw=loaded.config.image_hw)
            difference = _difference_on_noise(loaded.backbone, draft)
        accuracies = tuple(_accuracy(loaded, draft, pair_set, format=format) for pair_set in pair_sets)
        if quantisation is None:
            _check_accuracies(accuracies)
    return Export(
        path=str(out),
        format=format,
        quantisation=quantisation,
        bytes=out.stat().st_size,
        max_difference=difference,
        accuracies=accuracies,
    )


def _check_accuracies(accuracies: Sequence[SetAccuracy]) -> None:
    for entry in accuracies:
        if entry.accuracy_model != entry.accuracy_exported:
            raise ModelError(
                f"what was exported has the accuracy {entry.accuracy_exported:.6f} on {entry.pair_set}, "
                f"the model {entry.accuracy_model:.6f}; nothing was written"
            )


class _Exported(nn.Module):
    """An exported file where evaluation expects a backbone."""

    def __init__(self, path: Path, *, format: ExportFormat) -> None:  # noqa: A002
        super().__init__()
        self._run = open_exported(path, format=format)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        # The inverse of normalise_images; exact, because the pixels were whole numbers.
        pixels = (images_BCHW * 127.5 + 127.5).round().to(torch.uint8).contiguous()
        return torch.from_numpy(self._run(pixels.numpy()))


def _accuracy(loaded: LoadedBackbone, path: Path, pair_set: PairSet, *, format: ExportFormat) -> SetAccuracy:  # noqa: A002
    ours = _verify(loaded.backbone, pair_set, loaded)
    # Weights alone are the model.
    theirs = ours if format == "safetensors" else _verify(_Exported(path, format=format), pair_set, loaded)
    return SetAccuracy(
        pair_set=pair_set.name,
        sha256=pair_set.sha256,
        accuracy_model=ours.accuracy,
        accuracy_exported=theirs.accuracy,
        tar_model=ours.at_far(1e-3).tar,
        tar_exported=theirs.at_far(1e-3).tar,
    )


def _verify(backbone: nn.Module, pair_set: PairSet, loaded: LoadedBackbone) -> PairResult:
    (result,) = evaluate_configured(backbone, [pair_set], config=loaded.config, device=torch.device("cpu"))
    return result


def _difference_on_noise(backbone: Backbone, path: Path) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, *backbone.image_hw), np.uint8)
    with torch.no_grad():
        expected = backbone(normalise_images(torch.from_numpy(pixels))).numpy()
    return max_difference(expected, open_exported(path, format="onnx")(pixels))
