"""The folder of a registered predictor, checked file by file before anything in it is used."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from facerec.errors import CheckpointError
from facerec.fsio import check_manifest, sha256_file

__all__ = ["CODE_FOLDER", "MODEL_SCRIPT", "check_model_folder", "hash_tree"]

CODE_FOLDER = "code"
MODEL_SCRIPT = "predictor_model.py"

_OF_MLFLOW = {
    "MLmodel",
    "conda.yaml",
    "python_env.yaml",
    "requirements.txt",
    "input_example.json",
    "serving_input_example.json",
    "registered_model_meta",
    "environment_variables.txt",
}
"""Files that MLflow writes, and may write again, beside ours; none of them holds code or weights."""
_CACHE = re.compile(r"(\w+)\.[\w.-]+\.pyc(\.\d+)?")
"""What Python writes beside the code that it loads; the number at the end is there while it is written."""


def check_model_folder(predictor: Path) -> None:
    """Compare the whole model folder that ``predictor`` lies in with the predictor's manifest.

    The weights and the description are checked, the code that came with them, and that nothing else is there but
    Python's own caches of that code.

    Raises:
        CheckpointError: a file was changed, is missing, or is not listed; the message names it.
    """
    root = predictor.parents[1]
    manifest = check_manifest(predictor)
    listed = manifest.get("code")
    if not isinstance(listed, dict):
        raise CheckpointError(f"{predictor} is no predictor; its manifest lists no code")
    present = {name for name in _files(root) if not name.startswith(f"{predictor.relative_to(root).as_posix()}/")}
    if missing := sorted(set(listed) - present):
        raise CheckpointError(f"the model in {root} is damaged: {missing[0]} is missing; fetch or register it again")
    present = {name for name in present if _source_of(name) not in listed}
    if added := sorted(present - set(listed) - _OF_MLFLOW):
        raise CheckpointError(f"the model in {root} holds {added[0]}, which its manifest does not list; remove it")
    for name, digest in listed.items():
        if sha256_file(root / name) != digest:
            raise CheckpointError(f"the model in {root} is damaged: {name} has changed; fetch or register it again")


def hash_tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file under ``root``, by its path from there."""
    return {name: sha256_file(root / name) for name in _files(root)}


def _source_of(name: str) -> str | None:
    """The module that a file caches; None where it is no cache."""
    path = PurePosixPath(name)
    cached = _CACHE.fullmatch(path.name)
    if cached is None or path.parent.name != "__pycache__":
        return None
    return (path.parent.parent / f"{cached[1]}.py").as_posix()


def _files(root: Path) -> list[str]:
    # A link to a folder counts, though it is not followed: Python would.
    paths = (path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir())
    return [path.relative_to(root).as_posix() for path in paths]
