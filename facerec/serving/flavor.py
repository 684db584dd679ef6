"""Packing a predictor for MLflow; `mlflow.models.Model.log` calls ``save_model`` as it does for its own flavors."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facerec.serving.package import Staged
from facerec.serving.signature import predictor_signature

if TYPE_CHECKING:
    from mlflow.models import Model

__all__ = ["requirements", "save_model"]

_ALWAYS = ("mlflow", "torch", "numpy", "pandas", "pillow", "simplejpeg", "safetensors", "pyyaml", "pydantic")
_ALSO = ("annotated-types",)
_FAST_SERVER = ("uvloop", "httptools")
"""Without them a server of several workers answers in steps of 40 ms."""


def requirements(*, runtime: str, with_index: bool, of_backbone: Sequence[str] = ()) -> list[str]:
    """What serving needs and nothing else, pinned to the versions at hand."""
    names = [*_ALWAYS, *_ALSO, *_FAST_SERVER, *(name for name in of_backbone if name not in _ALWAYS)]
    names += ["onnxruntime"] if runtime == "onnx" else []
    names += ["faiss-cpu"] if with_index else []
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def save_model(path: str, *, mlflow_model: Model, staged: Staged, runtime: str, example: str) -> None:
    """Write the model folder.

    Args:
        path: Where; MLflow chooses it.
        mlflow_model: What becomes ``MLmodel``.
        staged: The parts.
        runtime: torch or onnx.
        example: Base64 of a picture, for the input example.
    """
    import mlflow
    import pandas as pd

    with_index = any(staged.predictor.glob("*.faiss"))
    with warnings.catch_warnings():
        # The answers are plain dictionaries, which MLflow does not check by their type hint.
        warnings.filterwarnings("ignore", message=".*AnyType", category=UserWarning)
        mlflow.pyfunc.save_model(
            path=path,
            mlflow_model=mlflow_model,
            python_model=str(staged.script),
            artifacts={"predictor": str(staged.predictor)},
            code_paths=[str(entry) for entry in sorted(staged.code.iterdir())],
            signature=predictor_signature(),
            input_example=(pd.DataFrame({"image_a": [example], "image_b": [example]}), {"mode": "similarity"}),
            pip_requirements=requirements(runtime=runtime, with_index=with_index, of_backbone=staged.packages),
        )
    _forget_this_machine(mlflow_model, Path(path), staged)


def _forget_this_machine(mlflow_model: Model, folder: Path, staged: Staged) -> None:
    """MLflow records where the parts lay before; the model needs their names alone."""
    flavor = mlflow_model.flavors["python_function"]
    flavor["model_code_path"] = staged.script.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    store, mlflow_model.artifact_path = mlflow_model.artifact_path, None
    mlflow_model.save(str(folder / "MLmodel"))
    mlflow_model.artifact_path = store
