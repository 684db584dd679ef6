"""Results as JSON and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerec.evaluation.confidence import Confidence
from facerec.evaluation.names import FAR_TARGETS, tar_name, threshold_name
from facerec.evaluation.result import VAL_FAR, PairResult
from facerec.fsio import atomic_write_text
from facerec.metrics.intervals import clopper_pearson
from facerec.metrics.roc import OperatingPoint, far_label

__all__ = ["format_table", "result_to_json", "write_summary"]


def result_to_json(result: PairResult, confidence: Confidence | None = None) -> dict[str, Any]:
    """A result as plain data for JSON.

    ``untrusted_far`` lists the target FARs for which fewer than 30 false accepts are expected, ``bound_far`` those with
    fewer than 3, at which the pairs show no more than ``far_upper_…``, the 95 % bound of the FAR. ``d_prime`` is null
    where it is infinite. ``intervals`` are at 95 %: exact ones of
    single pairs and, with ``confidence``, those of a bootstrap over people.
    """
    points = result.operating_points
    return {
        "accuracy": result.accuracy,
        "accuracy_std": result.accuracy_std,
        "fold_accuracy": result.fold_accuracy.tolist(),
        "fold_threshold_sq_l2": result.fold_threshold_sq_l2.tolist(),
        "auc": result.auc,
        "eer": result.eer,
        **{tar_name(point.far_target): point.tar for point in points},
        **{threshold_name(point.far_target): point.threshold for point in points},
        **{f"far_upper_{far_label(point.far_target)}": point.far_upper for point in points},
        "untrusted_far": [far_label(point.far_target) for point in points if not point.trusted],
        "bound_far": [far_label(point.far_target) for point in points if point.is_bound],
        "d_prime": result.d_prime if math.isfinite(result.d_prime) else None,
        "xnorm": result.xnorm,
        "pairs": result.pairs,
        "genuine": result.genuine,
        "sha256": result.sha256,
        "identities_known": result.identities_known,
        "accuracy_exact": result.accuracy_exact,
        "accuracy_exact_std": result.accuracy_exact_std,
        **_val_to_json(result),
        "operating_points": [_point_to_json(point) for point in points],
        "intervals": _intervals_to_json(result, confidence),
        "bootstrap": None
        if confidence is None
        else {"resamples": confidence.num_resamples, "people": confidence.num_people},
    }


def _val_to_json(result: PairResult) -> dict[str, Any]:
    label = far_label(VAL_FAR)
    val = result.val
    return {
        f"val_at_far_{label}": None if val is None else val.val,
        f"val_std_at_far_{label}": None if val is None else val.val_std,
        f"val_far_at_far_{label}": None if val is None else val.far,
    }


def _point_to_json(point: OperatingPoint) -> dict[str, Any]:
    return {
        "far_target": far_label(point.far_target),
        "tar": point.tar,
        "far": point.far,
        "fmr": point.far,
        "fnmr": 1.0 - point.tar,
        "threshold": point.threshold,
        "true_accepts": point.true_accepts,
        "false_accepts": point.false_accepts,
        "expected_errors": point.expected_errors,
        "far_upper": point.far_upper,
        "trusted": point.trusted,
        "is_bound": point.is_bound,
    }


def _intervals_to_json(result: PairResult, confidence: Confidence | None) -> dict[str, Any]:
    exact = {"accuracy": clopper_pearson(int(np.count_nonzero(result.correct)), result.pairs)}
    for point in result.operating_points:
        exact[tar_name(point.far_target)] = clopper_pearson(point.true_accepts, point.num_genuine)
    over_people = {} if confidence is None else confidence.intervals
    return {
        name: {
            **({"clopper_pearson": list(exact[name])} if name in exact else {}),
            **({"bootstrap": list(over_people[name])} if name in over_people else {}),
        }
        for name in dict.fromkeys([*exact, *over_people])
    }


def format_table(results: Sequence[PairResult]) -> str:
    """One line per set for people: accuracy, AUC, EER and TAR in per cent.

    ``~`` marks a TAR for which fewer than 30 false accepts are expected, ``*`` one for which fewer than 3 are.
    """
    heads = ["set", "pairs", "accuracy", "AUC", "EER", *(f"TAR@{far_label(far)}" for far in FAR_TARGETS)]
    rows = [heads, *map(_table_row, results)]
    if len(results) > 1:
        mean = math.fsum(result.accuracy for result in results) / len(results)
        rows.append(["mean", "", f"{100 * mean:.2f}", *[""] * (len(heads) - 3)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    marks = {mark for result in results for mark in map(_mark, result.operating_points)}
    notes = [note for mark, note in _NOTES.items() if mark in marks]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *notes]) + "\n"


def write_summary(
    results: Sequence[PairResult],
    path: Path,
    *,
    facts: Mapping[str, str],
    confidences: Sequence[Confidence | None] = (),
) -> None:
    """Write the results as a text file; ``facts`` (model, command, device …) stand at its head."""
    known = [*confidences, *[None] * (len(results) - len(confidences))]
    width = max(map(len, facts), default=0)
    blocks = [
        "Face verification\n" + "".join(f"{name.ljust(width)}  {value}\n" for name, value in facts.items()),
        format_table(results),
        *map(_describe, results, known),
    ]
    atomic_write_text(path, "\n".join(blocks))


_NOTES = {
    "~": "~  fewer than 30 false accepts are expected at this FAR: a rough figure",
    "*": "*  fewer than 3 are expected: the impostor pairs are too few for this FAR and only show a larger bound of it",
}


def _mark(point: OperatingPoint) -> str:
    return "*" if point.is_bound else "" if point.trusted else "~"


def _table_row(result: PairResult) -> list[str]:
    points = {point.far_target: point for point in result.operating_points}
    return [
        result.name,
        str(result.pairs),
        f"{100 * result.accuracy:.2f} ± {100 * result.accuracy_std:.2f}",
        f"{100 * result.auc:.3f}",
        f"{100 * result.eer:.2f}",
        *(f"{_mark(points[far])}{100 * points[far].tar:.2f}" for far in FAR_TARGETS),
    ]


def _describe(result: PairResult, confidence: Confidence | None) -> str:
    low, high = clopper_pearson(int(np.count_nonzero(result.correct)), result.pairs)
    folds = "  ".join(f"{100 * value:.2f}" for value in result.fold_accuracy)
    thresholds = "  ".join(f"{value:.2f}" for value in result.fold_threshold_sq_l2)
    lines = [
        f"{result.name}: {result.pairs} pairs, {result.genuine} genuine, {result.pairs - result.genuine} impostor",
        f"  SHA-256 of the file      {result.sha256}",
        f"  accuracy                 {100 * result.accuracy:.3f} % ± {100 * result.accuracy_std:.3f} over 10 folds, "
        f"95 % interval {100 * low:.2f} to {100 * high:.2f} (Clopper-Pearson)",
        f"  accuracy of the folds    {folds}",
        f"  thresholds of the folds  {thresholds}  (squared L2 distance)",
        f"  exact thresholds         {100 * result.accuracy_exact:.3f} % ± {100 * result.accuracy_exact_std:.3f}, "
        "without the protocol's grid",
        *_describe_val(result),
        f"  AUC {result.auc:.6f}, EER {100 * result.eer:.3f} %, d' {result.d_prime:.3f}, "
        f"mean embedding norm {result.xnorm:.4g}",
        "",
        "  target FAR       TAR    95 % interval    FAR seen   FAR at most    cosine from    false accepts expected",
        *map(_describe_point, result.operating_points),
        "  FAR at most: with 95 % confidence (one-sided Clopper-Pearson)",
        *_describe_confidence(result, confidence),
    ]
    return "\n".join(lines) + "\n"


def _describe_val(result: PairResult) -> list[str]:
    val = result.val
    if val is None:
        return []
    return [
        f"  VAL at FAR {far_label(VAL_FAR)}          {100 * val.val:.3f} % ± {100 * val.val_std:.3f} over 10 folds, "
        f"at a mean FAR of {val.far:.2e}"
    ]


def _describe_confidence(result: PairResult, confidence: Confidence | None) -> list[str]:
    if confidence is None:
        return []
    who = "people" if result.identities_known else "people, told apart by the genuine pairs alone"
    shown = (f"{name} {100 * low:.3f} to {100 * high:.3f} %" for name, (low, high) in confidence.intervals.items())
    return [
        "",
        f"  95 % intervals over {confidence.num_people} {who} ({confidence.num_resamples} resamples):",
        *(f"    {text}" for text in shown),
    ]


def _describe_point(point: OperatingPoint) -> str:
    low, high = clopper_pearson(point.true_accepts, point.num_genuine)
    note = "only the bound is known" if point.is_bound else "" if point.trusted else "rough"
    interval = f"{100 * low:.2f} to {100 * high:.2f}"
    return (
        f"  {far_label(point.far_target):>10}  {100 * point.tar:7.2f}  {interval:>15}  {point.far:10.2e}"
        f"  {point.far_upper:13.2e}  {point.threshold:12.4f}  {point.expected_errors:10.4g}  {note}"
    ).rstrip()
