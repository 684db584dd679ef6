"""Decoded pictures to normalised embeddings, from many threads and in batches of any size."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from facerec.config.schema import ModelConfig
from facerec.errors import ModelError, UsageError
from facerec.evaluation.embed import Embeddings, embed_pixels
from facerec.metrics.similarity import normalise
from facerec.models.backbones.base import Backbone
from facerec.models.build import build_backbone
from facerec.models.state_load import load_backbone_weights
from facerec.process import available_cores
from facerec.serving.spec import PredictorSpec

__all__ = ["ONNX_FILE", "WEIGHTS_FILE", "Embedder", "OnnxBackbone", "TorchRunner", "build_embedder", "load_weights"]

WEIGHTS_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
_CHUNK = 64
"""Pictures in one pass; with their mirror images twice as many."""


class _Runner(Protocol):
    def __call__(self, pixels_BHWC: NDArray[np.uint8], *, flip: bool) -> Embeddings: ...


class Embedder:
    """Embeds decoded pictures; one object serves all threads.

    One pass runs at a time: on a CPU it has all cores, on a GPU it has the device, and the numbers do not depend on
    who else asks.
    """

    def __init__(self, runner: _Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()

    def embed(self, pixels_BHWC: NDArray[np.uint8], *, flip: bool) -> NDArray[np.float64]:
        """Embeddings of length 1; with ``flip`` of the sum over the picture and its mirror image, as in verification.

        Shape: (B, H, W, 3) uint8 to (B, D) float64.

        Raises:
            ModelError: an embedding is not finite.
        """
        summed = []
        for start in range(0, len(pixels_BHWC), _CHUNK):
            with self._lock:
                embeddings = self._runner(pixels_BHWC[start : start + _CHUNK], flip=flip)
            original = embeddings.original.astype(np.float64)
            summed.append(original if embeddings.flipped is None else original + embeddings.flipped)
        return normalise(np.concatenate(summed))


class TorchRunner:
    """A backbone in torch, on ``device``."""

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        self._backbone = backbone
        self._device = device

    def __call__(self, pixels_BHWC: NDArray[np.uint8], *, flip: bool) -> Embeddings:
        """See `embed_pixels`."""
        return embed_pixels(self._backbone, pixels_BHWC, device=self._device, flip=flip)


class OnnxBackbone:
    """A backbone in onnxruntime, on the CPU; the graph takes 8-bit RGB pictures (B, 3, H, W) and normalises them."""

    def __init__(self, path: Path, *, num_threads: int = 0) -> None:
        """Load a graph; ``num_threads`` 0 takes all cores.

        Raises:
            UsageError: onnxruntime is not installed.
            ModelError: the file is no usable graph.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError("this model needs onnxruntime; install the extra 'onnx'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or available_cores()
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path} is no graph that onnxruntime takes ({type(error).__name__})") from error

    def run(self, pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings before normalisation: (B, 3, H, W) uint8 to (B, D) float32."""
        (embeddings,) = self._session.run(None, {"pixels": pixels_BCHW})
        return embeddings

    def __call__(self, pixels_BHWC: NDArray[np.uint8], *, flip: bool) -> Embeddings:
        """Like `embed_pixels`, in one pass.

        Raises:
            ModelError: an embedding is not finite.
        """
        pixels_BCHW = np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2))
        if flip:
            pixels_BCHW = np.concatenate([pixels_BCHW, pixels_BCHW[..., ::-1]])
        embeddings = self.run(pixels_BCHW)
        if not np.isfinite(embeddings).all():
            raise ModelError("the model gives an embedding that is not finite; its weights have diverged")
        count = len(pixels_BHWC)
        return Embeddings(original=embeddings[:count], flipped=embeddings[count:] if flip else None)


def load_weights(spec: PredictorSpec, folder: Path, *, device: torch.device) -> Backbone:
    """Build the backbone of a predictor and load its weights, in evaluation mode on ``device``.

    Raises:
        CheckpointError: the weights are damaged or of another architecture.
        ConfigError: the backbone is unknown here.
    """
    config = ModelConfig(backbone=spec.backbone, embedding_size=spec.embedding_size, dropout=spec.dropout)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        backbone = build_backbone(config, image_hw=spec.image_hw)
    load_backbone_weights(backbone, folder / WEIGHTS_FILE)
    backbone.requires_grad_(requires_grad=False)
    return backbone.to(device).to(memory_format=torch.channels_last).eval()


def build_embedder(spec: PredictorSpec, folder: Path, *, device: torch.device) -> Embedder:
    """The embedder of a predictor folder, in the runtime that it was registered for.

    Raises:
        CheckpointError, ConfigError, ModelError, UsageError: as `load_weights` and `OnnxBackbone` say.
    """
    if spec.runtime == "onnx":
        return Embedder(OnnxBackbone(folder / ONNX_FILE, num_threads=torch.get_num_threads()))
    return Embedder(TorchRunner(load_weights(spec, folder, device=device), device))
