"""A whole comparison: models or stored results in, a folder of reports out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facerec.errors import UsageError
from facerec.evaluation.blocks import facts_table, mark, mark_notes, percent
from facerec.evaluation.comparison import (
    Candidate,
    ModelDifference,
    SetComparison,
    compare_candidates,
    comparison_to_json,
)
from facerec.evaluation.confidence import NUM_RESAMPLES
from facerec.evaluation.document import Block, Heading, Paragraph, Picture, Table, to_text
from facerec.evaluation.names import tar_name
from facerec.evaluation.output import closing_facts, file_label, open_folder, write_documents
from facerec.evaluation.pictures import write_roc_picture
from facerec.evaluation.pictures_detail import write_det_picture
from facerec.evaluation.result import PairResult
from facerec.evaluation.run import load_model, with_pair_sets
from facerec.evaluation.stored import read_embeddings, score_stored
from facerec.evaluation.stored_scores import is_stored_evaluation, read_evaluation
from facerec.evaluation.suites import SetProgress, evaluate_configured, find_pair_sets
from facerec.metrics.compare import Difference
from facerec.metrics.roc import OperatingPoint, far_label

__all__ = ["ComparisonRun", "Subject", "run_comparison"]

_FOLDER = Path("logs") / "comparisons"
_TABLE_FARS = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared: as the user named it, and where it lies."""

    text: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class ComparisonRun:
    """What a comparison found and where it wrote."""

    folder: Path
    results: dict[str, Any]
    """What ``compare.json`` holds."""
    text: str
    """The tables for a terminal."""
    files: tuple[Path, ...]


def run_comparison(
    subjects: Sequence[Subject],
    *,
    bins: Sequence[str] = (),
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    device: str | None = None,
    num_resamples: int = NUM_RESAMPLES,
    progress: SetProgress | None = None,
) -> ComparisonRun:
    """Compare models, files of embeddings and stored evaluations, and write the reports.

    Args:
        subjects: Checkpoint or run folders, weights files, ``.npz`` of embeddings, folders of evaluations.
        bins: Pair sets for all models in place of their configurations'.
        config_path: The configuration of weights that carry none.
        overrides: ``KEY=VALUE`` texts over the configurations.
        output: Folder for the reports; by default a new one under ``logs/comparisons``.
        device: In place of the configurations'.
        num_resamples: Resamples of the bootstrap.
        progress: Told of every batch.

    Raises:
        UsageError: fewer than two subjects, or nothing in common.
        FacerecError: as loading, embedding and the metrics say.
    """
    if len(subjects) < 2:
        raise UsageError("a comparison needs two models or more")
    candidates = [
        Candidate(
            label=label,
            source=subject.text,
            results=_results(
                subject.path,
                bins=bins,
                config_path=config_path,
                overrides=overrides,
                device=device,
                progress=progress,
            ),
        )
        for label, subject in zip(_labels(subjects), subjects, strict=True)
    ]
    sets = compare_candidates(candidates, num_resamples=num_resamples)
    now = datetime.now(UTC)
    folder = open_folder(output, _FOLDER, label="compare", now=now)
    return _write(candidates, sets, folder, facts=closing_facts(now))


def _results(
    path: Path,
    *,
    bins: Sequence[str],
    config_path: str | Path | None,
    overrides: Sequence[str],
    device: str | None,
    progress: SetProgress | None,
) -> list[PairResult]:
    if path.suffix == ".npz":
        return [score_stored(read_embeddings(path), name=path.stem)]
    if is_stored_evaluation(path):
        return read_evaluation(path)
    loaded, config, target = load_model(path, config_path, overrides=overrides, device=device)
    pair_sets = find_pair_sets(with_pair_sets(config, bins, None))
    if not pair_sets:
        raise UsageError(f"there is no pair set to verify {path} on; give --bin FILE")
    return evaluate_configured(loaded.backbone, pair_sets, config=config, device=target, progress=progress)


def _labels(subjects: Sequence[Subject]) -> list[str]:
    """Short names where they differ, else whole ones, else numbered."""
    short = [subject.text.rstrip("/").rsplit("/", 1)[-1].removesuffix(".npz") for subject in subjects]
    if len(set(short)) == len(short):
        return short
    whole = [subject.text for subject in subjects]
    return whole if len(set(whole)) == len(whole) else [f"{number}: {text}" for number, text in enumerate(whole, 1)]


def _write(
    candidates: Sequence[Candidate], sets: Sequence[SetComparison], folder: Path, *, facts: dict[str, str]
) -> ComparisonRun:
    results = comparison_to_json(candidates, sets)
    labels = [candidate.label for candidate in candidates]
    tables: list[Block] = []
    blocks: list[Block] = []
    pictures: list[Path] = []
    for index, one in enumerate(sets):
        found = _set_blocks(one, labels)
        tables += found
        drawn = _draw(one, labels, folder, prefix=f"{index}_" if len(sets) > 1 else "")
        pictures += drawn
        blocks += [
            *found,
            Picture(path=drawn[0], caption=f"{one.name}: receiver operating characteristic of all models"),
            Picture(path=drawn[1], caption=f"{one.name}: detection error trade-off of all models"),
        ]
    facts = {**{f"model {candidate.label}": candidate.source for candidate in candidates}, **facts}
    blocks += [Heading(text="What was compared"), facts_table(facts)]
    title = f"Comparison of {len(labels)} models"
    documents = write_documents(folder, "compare", title=title, blocks=blocks, content={"facts": facts, **results})
    return ComparisonRun(
        folder=folder,
        results=results,
        text=to_text(title, tables),
        files=(*documents, *pictures),
    )


def _draw(one: SetComparison, labels: Sequence[str], folder: Path, *, prefix: str) -> tuple[Path, Path]:
    known = [(label, result) for label, result in zip(labels, one.results, strict=True) if result is not None]
    names, results = [label for label, _ in known], [result for _, result in known]
    stem = prefix + file_label(one.name)
    roc, det = folder / f"roc_{stem}.png", folder / f"det_{stem}.png"
    write_roc_picture(results, roc, labels=names, title=f"{one.name}: receiver operating characteristic")
    write_det_picture(results, det, labels=names)
    return roc, det


def _set_blocks(one: SetComparison, labels: Sequence[str]) -> list[Block]:
    return list(_iterate_set_blocks(one, labels))


def _iterate_set_blocks(one: SetComparison, labels: Sequence[str]) -> Iterator[Block]:
    known = [(label, result) for label, result in zip(labels, one.results, strict=True) if result is not None]
    yield Heading(text=one.name)
    yield _result_table(known)
    first = one.results[0]
    against = [(label, found) for label, found in zip(labels, one.differences, strict=True) if found is not None]
    if first is not None and against:
        yield Paragraph(
            text=f"Differences to {labels[0]} on the same pairs, in percentage points, with 95 % intervals."
        )
        yield Table(
            head=("metric", *(label for label, _ in against)),
            rows=list(_difference_rows([found for _, found in against], [first.at_far(far) for far in _TABLE_FARS])),
            notes=["Bootstrap over people, the same for both models; an interval without 0 is marked with !."],
        )
    if len(against) < len(known) - 1:
        yield Paragraph(
            text="Where the pairs are not known to be those of the first model, no paired test is possible. The same "
            "file shows that they are, and in files of embeddings identity or pair_set."
        )


def _result_table(known: Sequence[tuple[str, PairResult]]) -> Table:
    names = [result.name for _, result in known]
    several = len(set(names)) > 1
    points = [[result.at_far(far) for far in _TABLE_FARS] for _, result in known]
    rows = [
        (
            label,
            *((name,) if several else ()),
            f"{result.pairs}",
            f"{percent(result.accuracy)} ± {percent(result.accuracy_std)}",
            percent(result.auc, digits=3),
            percent(result.eer),
            *(f"{mark(point)}{percent(point.tar)}" for point in shown),
        )
        for (label, result), name, shown in zip(known, names, points, strict=True)
    ]
    fars = (f"TAR@{far_label(far)}" for far in _TABLE_FARS)
    return Table(
        head=("model", *(("set",) if several else ()), "pairs", "accuracy, 10 folds", "AUC", "EER", *fars),
        rows=rows,
        notes=["Rates in per cent.", *mark_notes([point for shown in points for point in shown])],
    )


def _difference_rows(found: Sequence[ModelDifference], points: Sequence[OperatingPoint]) -> Iterator[tuple[str, ...]]:
    for name, shown in {"accuracy": "accuracy", "auc": "AUC", "eer": "EER"}.items():
        yield (shown, *(_difference_text(one.metrics[name]) for one in found))
    for point in points:
        differences = (one.metrics[tar_name(point.far_target)] for one in found)
        shown = f"{mark(point)}TAR@{far_label(point.far_target)}"
        yield (shown, *(_difference_text(one, is_bound=point.is_bound) for one in differences))
    yield ("pairs that only this model decides correctly", *(f"{one.mcnemar.only_second}" for one in found))
    yield ("pairs that only the first decides correctly", *(f"{one.mcnemar.only_first}" for one in found))
    yield ("McNemar's exact test, p", *(f"{one.mcnemar.p_value:.3g}" for one in found))


def _difference_text(one: Difference, *, is_bound: bool = False) -> str:
    low, high = one.interval
    # Below the FAR that the pairs can show, a difference hangs on one or two impostor pairs.
    sign = "" if is_bound or low <= 0.0 <= high else " !"
    return f"{100 * one.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}){sign}"
