"""A predictor's folder to a service that answers."""

from __future__ import annotations

from pathlib import Path

from facerec.fsio import check_manifest, sha256_file
from facerec.models.device import resolve_device
from facerec.serving.embedder import WEIGHTS_FILE, build_embedder
from facerec.serving.gallery import load_gallery
from facerec.serving.images import LIMITS, Limits
from facerec.serving.service import Service
from facerec.serving.spec import read_spec

__all__ = ["GALLERY_FILE", "load_service"]

GALLERY_FILE = "gallery.safetensors"


def load_service(folder: Path, *, device: str = "auto", limits: Limits = LIMITS) -> Service:
    """Load a predictor from the folder of its weights, whose files are compared with their manifest first.

    Raises:
        CheckpointError, DataError, UsageError, ConfigError: a file is damaged, or a library is missing.
    """
    check_manifest(folder)
    spec = read_spec(folder)
    target = resolve_device("cpu" if spec.runtime == "onnx" else device)
    gallery = None
    if (folder / GALLERY_FILE).is_file():
        gallery = load_gallery(folder / GALLERY_FILE)
        gallery.check_model(sha256_file(folder / WEIGHTS_FILE), flip=spec.flip)
    return Service(spec, build_embedder(spec, folder, device=target), gallery=gallery, limits=limits)
