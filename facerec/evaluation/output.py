"""The folder of an evaluation: text, JSON, Markdown, HTML, scores and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facerec import __version__
from facerec.errors import UsageError
from facerec.evaluation.blocks import evaluation_blocks
from facerec.evaluation.confidence import Confidence
from facerec.evaluation.document import Block, to_html, to_markdown
from facerec.evaluation.faces import write_face_sheet
from facerec.evaluation.grouping import GroupReport, group_report_to_json
from facerec.evaluation.pictures import write_roc_picture, write_score_picture
from facerec.evaluation.pictures_detail import write_det_picture, write_fold_picture, write_group_picture
from facerec.evaluation.report import result_to_json, write_summary
from facerec.evaluation.result import PairResult
from facerec.evaluation.stored_scores import REPORT_FILE, write_scores
from facerec.fsio import atomic_write_text

__all__ = [
    "EvaluationRun",
    "FacePicture",
    "closing_facts",
    "file_label",
    "open_folder",
    "write_documents",
    "write_evaluation",
]

FacePicture = Callable[[int, int], NDArray[np.uint8]]
"""From pair and side to the decoded image, (H, W, 3) uint8, RGB."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """What an evaluation found and where it wrote."""

    results: list[PairResult]
    folder: Path
    summary: Path
    """``test_result_<name>_<timestamp>.txt``."""
    report: Path
    """``report.json``: facts and results."""
    pictures: tuple[Path, ...]
    """ROC, DET, scores, folds and, of groups, their rates; no faces."""
    documents: tuple[Path, ...]
    """``report.md``, ``scores.npz`` and, where no face is in it, ``report.html``."""
    faces: tuple[Path, ...]
    """What shows faces: the hardest pairs of each set, and ``report.html`` with them."""
    confidences: tuple[Confidence | None, ...]
    groups: GroupReport | None


def write_evaluation(
    results: list[PairResult],
    *,
    facts: Mapping[str, str],
    name: str | None,
    output: Path | None,
    parent: Path,
    confidences: Sequence[Confidence | None],
    groups: GroupReport | None = None,
    faces: Mapping[str, FacePicture] | None = None,
) -> EvaluationRun:
    """Write every report of an evaluation.

    Args:
        results: One for each set.
        facts: Model, command, device and the like.
        name: Name of the report in place of the sets' names.
        output: The folder; by default a new one under ``parent``.
        parent: Where new folders are made.
        confidences: Intervals of each result, or None.
        groups: Rates of groups.
        faces: For each set whose images are at hand, how to decode one.
    """
    now = datetime.now(UTC)
    label = file_label(name or "_".join(result.name for result in results))
    folder = open_folder(output, parent, label=label, now=now)
    facts = {**facts, **closing_facts(now)}
    summary = folder / f"test_result_{_stamped(label, now)}.txt"
    write_summary(results, summary, facts=facts, confidences=confidences)
    content = {
        "facts": facts,
        "results": {r.name: result_to_json(r, c) for r, c in zip(results, confidences, strict=True)},
        "groups": None if groups is None else group_report_to_json(groups),
    }
    scores = write_scores(results, folder)
    pictures = _write_pictures(results, folder, confidences=confidences, groups=groups)
    sheets = _write_sheets(results, folder, faces or {})
    title = f"Face verification: {name or ', '.join(result.name for result in results)}"
    blocks = evaluation_blocks(
        results, facts=facts, confidences=confidences, groups=groups, pictures=pictures, faces=sheets
    )
    report, markdown, page = write_documents(
        folder, Path(REPORT_FILE).stem, title=title, blocks=blocks, content=content
    )
    return EvaluationRun(
        results=results,
        folder=folder,
        summary=summary,
        report=report,
        pictures=tuple(pictures.values()),
        documents=(markdown, scores) if sheets else (markdown, scores, page),
        faces=(*sheets.values(), page) if sheets else (),
        confidences=tuple(confidences),
        groups=groups,
    )


def write_documents(
    folder: Path, stem: str, *, title: str, blocks: Sequence[Block], content: Any
) -> tuple[Path, Path, Path]:
    """Write a report as plain data, Markdown and a page: ``<stem>.json``, ``<stem>.md`` and ``<stem>.html``."""
    data, markdown, page = (folder / f"{stem}.{ending}" for ending in ("json", "md", "html"))
    atomic_write_text(data, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    atomic_write_text(markdown, to_markdown(title, blocks))
    atomic_write_text(page, to_html(title, blocks))
    return data, markdown, page


def closing_facts(now: datetime) -> dict[str, str]:
    """What every report ends with."""
    return {"versions": f"facerec {__version__}, torch {torch.__version__}", "time": f"{now:%F %T} UTC"}


def file_label(name: str) -> str:
    """A name as a part of names of files."""
    return re.sub(r"[^\w.-]", "_", name)[:80].lstrip(".") or "set"


def open_folder(output: Path | None, parent: Path, *, label: str, now: datetime) -> Path:
    """Make the folder of the reports: ``output``, or a new one under ``parent`` with the label and the time."""
    folder = output if output is not None else _new_folder(parent / _stamped(label, now))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stamped(label: str, now: datetime) -> str:
    return f"{label}_{now:%Y%m%d_%H%M%S}"


def _new_folder(wanted: Path) -> Path:
    """``wanted``, or where another evaluation of the same second has it, the name with a number."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{wanted} exists a thousand times; give --output DIR")


def _write_pictures(
    results: Sequence[PairResult],
    folder: Path,
    *,
    confidences: Sequence[Confidence | None],
    groups: GroupReport | None,
) -> dict[str, Path]:
    kinds = ("roc", "scores", "det", "folds", *(("groups",) if groups is not None else ()))
    pictures = {kind: folder / f"{kind}.png" for kind in kinds}
    bands = [confidence.band for confidence in confidences if confidence is not None]
    write_roc_picture(results, pictures["roc"], bands=bands if len(bands) == len(results) else [])
    write_score_picture(results, pictures["scores"])
    write_det_picture(results, pictures["det"])
    write_fold_picture(results, pictures["folds"])
    if groups is not None:
        write_group_picture(groups, pictures["groups"])
    return pictures


def _write_sheets(results: Sequence[PairResult], folder: Path, faces: Mapping[str, FacePicture]) -> dict[str, Path]:
    sheets = {}
    for index, result in enumerate(results):
        if result.name in faces:
            sheets[result.name] = folder / f"hardest_{index}_{file_label(result.name)}.png"
            write_face_sheet(result, sheets[result.name], picture=faces[result.name])
    return sheets
