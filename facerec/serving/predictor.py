"""Two images in, a similarity out."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facerec.config.load import load_config
from facerec.data.decode import read_image_file
from facerec.errors import UsageError
from facerec.models.device import resolve_device
from facerec.models.weights import load_backbone
from facerec.serving.embedder import Embedder, TorchRunner
from facerec.serving.locate import locate_model
from facerec.serving.spec import SPEC_FILE, read_spec
from facerec.serving.weights import weights_sha256

__all__ = ["Predictor"]


class Predictor:
    """Embeds aligned face images and compares them."""

    def __init__(
        self,
        *,
        checkpoint_path: str | Path,
        config_path: str | Path | None = None,
        use_cpu: bool = False,
        device: str = "auto",
    ) -> None:
        """Load a model.

        Args:
            checkpoint_path: A checkpoint or run folder, a weights file, ``runs:/…`` or ``models:/…``.
            config_path: The configuration of the training; checkpoints of this project carry their own.
            use_cpu: Stay on the CPU; the same as ``device="cpu"``.
            device: auto, cpu, cuda or cuda:N.

        Raises:
            MissingPathError: a path does not exist.
            ConfigError: the configuration cannot be used, or none is known.
            CheckpointError: the weights are damaged or of another architecture.
            DeviceError: the device is not there.
        """
        self.device = resolve_device("cpu" if use_cpu else device)
        config = load_config(config_path) if config_path is not None else None
        path = locate_model(str(checkpoint_path))
        loaded = load_backbone(path, config=config, device=self.device)
        self.config = loaded.config
        self._backbone = loaded.backbone
        # The network as it was trained, like the evaluation's and the served one: a fused copy rounds differently.
        self._embedder = Embedder(TorchRunner(loaded.backbone, self.device))
        self.spec = read_spec(path) if (path / SPEC_FILE).is_file() else None
        """What a registered predictor knows beside its weights, thresholds among it; None for a checkpoint."""

    @classmethod
    def from_mlflow(cls, uri: str, *, device: str = "auto") -> Self:
        """Load a registered predictor, such as ``models:/faces@champion``, or the best checkpoint of ``runs:/ID``.

        Raises:
            UsageError: ``uri`` is no address in MLflow.
            FacerecError: as loading says.
        """
        if not uri.startswith(("models:/", "runs:/")):
            raise UsageError(
                f"{uri} is no address in MLflow; give models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID"
            )
        return cls(checkpoint_path=uri, device=device)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash that names the model: of its weights as a predictor holds them."""
        return weights_sha256(self._backbone)

    def embed(self, *image_paths: str | Path) -> NDArray[np.float32]:
        """Embeddings of image files, normalised to length 1.

        Each is the sum of the embeddings of the picture and, with ``eval.flip``, of its mirror image, as in
        verification. A picture is turned upright as its EXIF orientation says, and scaled to the model's input size;
        for meaningful results it shows a face aligned like the training pictures.

        Shape: (number of images, D), float32.

        Raises:
            ImageError: an image is missing or cannot be decoded; the message names it.
        """
        hw = self.config.image_hw
        pixels_BHWC = np.stack([read_image_file(path, image_hw=hw) for path in image_paths])
        return self._embedder.embed(pixels_BHWC, flip=self.config.eval.flip).astype(np.float32)

    def threshold(self, far: float = 1e-3) -> float | None:
        """Similarity from which on two pictures show the same person, at a false accept rate; None where not known."""
        entry = self.spec.threshold_at(far) if self.spec is not None else None
        return None if entry is None else entry.threshold

    def predict(self, image_a: str | Path, image_b: str | Path) -> float:
        """Cosine similarity of two face images, in [-1, 1]; see `embed`.

        Raises:
            ImageError: an image is missing or cannot be decoded; the message names it.
        """
        a, b = self.embed(image_a, image_b)
        return float(np.clip(np.dot(a, b), -1.0, 1.0))
