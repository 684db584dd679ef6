"""A predictor's files, laid out as MLflow packs them: weights, description, code, and a manifest of all of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.config.schema import Config
from facerec.fsio import write_manifest
from facerec.models.weights import LoadedBackbone
from facerec.registry import BACKBONES
from facerec.serving.card import CARD_FILE
from facerec.serving.code import copy_code, packages_of
from facerec.serving.embedder import ONNX_FILE, WEIGHTS_FILE
from facerec.serving.folder import CODE_FOLDER, MODEL_SCRIPT, hash_tree
from facerec.serving.gallery_index import INDEX_SUFFIX
from facerec.serving.loading import GALLERY_FILE
from facerec.serving.spec import PredictorSpec, write_spec
from facerec.serving.weights import weights_as_bytes

__all__ = ["Staged", "spec_of", "stage"]

_SCRIPT = '''"""The model that MLflow loads; everything it does is in the package beside it."""

from mlflow.models import set_model

from facerec.serving.pyfunc_model import FacePredictor

set_model(FacePredictor())
'''
_STATE_FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Where the parts of a predictor lie before MLflow packs them."""

    predictor: Path
    """Weights, description, model card, manifest and, where it has one, the gallery."""
    code: Path
    """The package that it carries."""
    script: Path
    packages: tuple[str, ...]
    """Other packages that the backbone needs."""


def spec_of(config: Config, **facts: Any) -> PredictorSpec:
    """The description of a model with this configuration; ``facts`` are ``runtime`` and ``calibration``."""
    return PredictorSpec(
        backbone=config.model.backbone,
        embedding_size=config.model.embedding_size,
        dropout=config.model.dropout,
        image_hw=config.image_hw,
        flip=config.eval.flip,
        **facts,
    )


def stage(
    loaded: LoadedBackbone, spec: PredictorSpec, folder: Path, *, card: str, gallery: Sequence[Path] = ()
) -> Staged:
    """Write the parts of a predictor below ``folder``.

    The folder of the weights is also one that every reader of checkpoints takes: beside the description it holds the
    few keys of the configuration that an embedding depends on. No path of this machine is in any of it. ``gallery``
    are the files of a gallery, as `gallery_files` lists them.

    Raises:
        UsageError: the runtime is onnx and the extra of that name is not installed.
        ModelError: the exported graph differs from the model.
    """
    backbone_module = BACKBONES.entry(spec.backbone).target.partition(":")[0]
    staged = Staged(
        predictor=folder / "predictor",
        code=folder / CODE_FOLDER,
        script=folder / "script" / MODEL_SCRIPT,
        packages=packages_of(backbone_module),
    )
    staged.predictor.mkdir(parents=True)
    (staged.predictor / WEIGHTS_FILE).write_bytes(weights_as_bytes(loaded.backbone))
    state = {"config": _portable_config(spec), "num_classes": loaded.num_classes}
    (staged.predictor / _STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
    write_spec(spec, staged.predictor)
    (staged.predictor / CARD_FILE).write_text(card, encoding="utf-8")
    if spec.runtime == "onnx":
        from facerec.serving.export import export_onnx

        export_onnx(loaded.backbone, staged.predictor / ONNX_FILE)
    for path in gallery:
        packed = staged.predictor / GALLERY_FILE
        shutil.copyfile(path, packed.with_suffix(INDEX_SUFFIX) if path.suffix == INDEX_SUFFIX else packed)
    copy_code(staged.code, backbone_module)
    staged.script.parent.mkdir()
    staged.script.write_text(_SCRIPT, encoding="utf-8")
    write_manifest(staged.predictor, code=_hashes(staged))
    return staged


def _hashes(staged: Staged) -> dict[str, str]:
    """The code as it lies in MLflow's folder, where the script stands beside the rest."""
    code = {f"{CODE_FOLDER}/{name}": digest for name, digest in hash_tree(staged.code).items()}
    script = hash_tree(staged.script.parent)[staged.script.name]
    return {**code, staged.script.name: script}


def _portable_config(spec: PredictorSpec) -> dict[str, Any]:
    model: dict[str, Any] = {"backbone": spec.backbone, "embedding_size": spec.embedding_size}
    if spec.dropout is not None:
        model["dropout"] = spec.dropout
    return {"model": model, "data": {"img_size": list(spec.image_hw)}, "eval": {"flip": spec.flip}}
