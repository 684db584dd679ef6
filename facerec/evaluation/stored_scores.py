"""The scores of an evaluation beside its report, so that models can be compared later without their weights."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError
from facerec.evaluation.result import PairResult, judge_pairs
from facerec.evaluation.stored import read_arrays
from facerec.fsio import atomic_write_bytes

__all__ = ["REPORT_FILE", "SCORES_FILE", "is_stored_evaluation", "read_evaluation", "write_scores"]

REPORT_FILE = "report.json"
SCORES_FILE = "scores.npz"
_ARRAYS = ("scores", "distances", "issame", "people")
_MAX_REPORT_BYTES = 1 << 26


def write_scores(results: Sequence[PairResult], folder: Path) -> Path:
    """Write the scores of every set: what `read_evaluation` needs beside ``report.json``."""
    arrays = {f"{name}_{index}": getattr(result, name) for index, result in enumerate(results) for name in _ARRAYS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path = folder / SCORES_FILE
    atomic_write_bytes(path, buffer.getvalue())
    return path


def is_stored_evaluation(path: Path) -> bool:
    """Whether a path is the folder of an evaluation with its scores, or the report in it."""
    folder = path.parent if path.name == REPORT_FILE else path
    return (folder / REPORT_FILE).is_file() and (folder / SCORES_FILE).is_file()


def read_evaluation(path: Path) -> list[PairResult]:
    """The results of a stored evaluation, computed again from its scores.

    Raises:
        MissingPathError: report or scores are not there.
        DataError: they are damaged or contradict each other.
        MetricError: the scores allow no metric.
    """
    folder = path.parent if path.name == REPORT_FILE else path
    report = folder / REPORT_FILE
    for needed in (report, folder / SCORES_FILE):
        if not needed.is_file():
            raise MissingPathError(f"{needed} does not exist; give the folder of an evaluation with its scores")
    sets = _read_report(report)
    names = [f"{name}_{index}" for index in range(len(sets)) for name in _ARRAYS]
    arrays = read_arrays(folder / SCORES_FILE, required=names)
    return [
        _rebuild(name, facts, {key: arrays[f"{key}_{index}"] for key in _ARRAYS}, where=folder / SCORES_FILE)
        for index, (name, facts) in enumerate(sets.items())
    ]


def _read_report(path: Path) -> dict[str, dict[str, Any]]:
    if path.stat().st_size > _MAX_REPORT_BYTES:
        raise DataError(f"{path} is too large for a report")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    sets = content.get("results") if isinstance(content, dict) else None
    if not isinstance(sets, dict) or not sets or not all(isinstance(facts, dict) for facts in sets.values()):
        raise DataError(f"{path} holds no results of an evaluation")
    return sets


def _rebuild(name: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]], *, where: Path) -> PairResult:
    num_pairs = facts.get("pairs")
    expected = {"scores": "f", "distances": "f", "issame": "b", "people": "i"}
    for key, kind in expected.items():
        shape = (num_pairs, 2) if key == "people" else (num_pairs,)
        if arrays[key].shape != shape or arrays[key].dtype.kind != kind:
            raise DataError(f"{where}: the {key} of {name} do not fit the report beside it")
    xnorm, sha256 = facts.get("xnorm"), facts.get("sha256")
    if not isinstance(xnorm, (int, float)) or not isinstance(sha256, str):
        raise DataError(f"{where}: the report beside it says too little about {name}")
    return judge_pairs(
        arrays["scores"].astype(np.float64),
        arrays["distances"].astype(np.float64),
        issame=arrays["issame"],
        people=arrays["people"].astype(np.int64),
        identities_known=facts.get("identities_known") is True,
        xnorm=float(xnorm),
        name=name,
        sha256=sha256,
    )
