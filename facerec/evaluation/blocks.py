"""The blocks of the report of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from facerec.evaluation.confidence import Confidence
from facerec.evaluation.document import Block, Heading, Paragraph, Picture, Table
from facerec.evaluation.grouping import GroupReport
from facerec.evaluation.names import FAR_TARGETS, tar_name
from facerec.evaluation.result import VAL_FAR, PairResult
from facerec.metrics.groups import Disparity, GroupRates
from facerec.metrics.intervals import Interval, clopper_pearson
from facerec.metrics.roc import OperatingPoint, far_label

__all__ = ["evaluation_blocks", "facts_table", "mark", "mark_notes", "percent", "range_text"]

_ROUGH = "~ fewer than 30 false accepts are expected at this FAR: a rough figure."
_BOUND = "* fewer than 3 are expected: the impostor pairs cannot show this FAR, only a larger bound of it."


def evaluation_blocks(
    results: Sequence[PairResult],
    *,
    facts: Mapping[str, str],
    confidences: Sequence[Confidence | None],
    groups: GroupReport | None,
    pictures: Mapping[str, Path],
    faces: Mapping[str, Path],
) -> list[Block]:
    """Everything that an evaluation found, for people; pictures are PNG files, by their kind."""
    blocks: list[Block] = [_overview(results, confidences), Picture(path=pictures["roc"], caption=_ROC_CAPTION)]
    blocks += [Heading(text="Scores"), Picture(path=pictures["scores"], caption=_SCORES_CAPTION)]
    if groups is not None:
        blocks += [*_group_blocks(groups), Picture(path=pictures["groups"], caption=_GROUPS_CAPTION)]
    for result, confidence in zip(results, confidences, strict=True):
        blocks += _set_blocks(result, confidence)
        if result.name in faces:
            blocks.append(Picture(path=faces[result.name], caption=_FACES_CAPTION))
    blocks += [
        Heading(text="Folds and error trade-off"),
        Picture(path=pictures["folds"], caption="Each point is one fold at the threshold that suits the others best."),
        Picture(path=pictures["det"], caption=_DET_CAPTION),
        Heading(text="How this was measured"),
        facts_table(facts),
    ]
    return blocks


def facts_table(facts: Mapping[str, str]) -> Table:
    """Model, command, device and the like."""
    return Table(head=("what", ""), rows=[(name, value) for name, value in facts.items()], numeric=False)


def percent(value: float, *, digits: int = 2) -> str:
    """A rate in per cent, without the sign."""
    return f"{100.0 * value:.{digits}f}"


def range_text(interval: Interval | None, *, digits: int = 2) -> str:
    """An interval in per cent."""
    return (
        "" if interval is None else f"{percent(interval.low, digits=digits)} to {percent(interval.high, digits=digits)}"
    )


def mark(point: OperatingPoint) -> str:
    """``*`` for a bound, ``~`` for a rough figure."""
    return "*" if point.is_bound else "" if point.trusted else "~"


def mark_notes(points: Sequence[OperatingPoint]) -> list[str]:
    """What the marks of these points mean."""
    marks = set(map(mark, points))
    return [note for sign, note in (("~", _ROUGH), ("*", _BOUND)) if sign in marks]


_ROC_CAPTION = (
    "Receiver operating characteristic with a logarithmic FAR axis. The shade is the 95 % interval over people; hollow "
    "points rest on fewer than 30 expected false accepts."
)
_SCORES_CAPTION = "Cosines of genuine and impostor pairs, with the thresholds of the protocol and at FAR 1e-3."
_DET_CAPTION = "Detection error trade-off: nearer to the lower left corner is better."
_FACES_CAPTION = "Look here first: wrong labels and poor pictures stand among the hardest pairs."
_GROUPS_CAPTION = "Error rates of the groups at one threshold for all; hollow points rest on too few pairs."


def _overview(results: Sequence[PairResult], confidences: Sequence[Confidence | None]) -> Table:
    head = (
        "set",
        "pairs",
        "accuracy, 10 folds",
        "95 % interval",
        "AUC",
        "EER",
        *(f"TAR@{far_label(far)}" for far in FAR_TARGETS),
    )
    rows: list[Sequence[str]] = []
    for result, confidence in zip(results, confidences, strict=True):
        points = {point.far_target: point for point in result.operating_points}
        rows.append(
            (
                result.name,
                f"{result.pairs}",
                f"{percent(result.accuracy)} ± {percent(result.accuracy_std)}",
                range_text(_accuracy_interval(result, confidence)),
                f"{result.auc:.5f}",
                percent(result.eer),
                *(f"{mark(points[far])}{percent(points[far].tar)}" for far in FAR_TARGETS),
            )
        )
    if len(results) > 1:
        mean = float(np.mean([result.accuracy for result in results]))
        rows.append(("mean", "", percent(mean), "", f"{np.mean([r.auc for r in results]):.5f}", *[""] * 5))
    notes = mark_notes([point for result in results for point in result.operating_points])
    return Table(head=head, rows=rows, notes=["Rates in per cent.", *notes])


def _accuracy_interval(result: PairResult, confidence: Confidence | None) -> Interval:
    if confidence is not None:
        return confidence.intervals["accuracy"]
    return clopper_pearson(int(np.count_nonzero(result.correct)), result.pairs)


def _set_blocks(result: PairResult, confidence: Confidence | None) -> Iterator[Block]:
    yield Heading(text=result.name)
    yield Paragraph(
        text=f"{result.pairs} pairs, {result.genuine} genuine and {result.pairs - result.genuine} impostor. SHA-256 of "
        f"the file: {result.sha256}."
    )
    yield Table(
        head=("metric", "value", "95 %, single pairs", "95 %, over people"),
        rows=list(_metric_rows(result, confidence)),
        notes=[_interval_note(result, confidence)],
    )
    yield Table(
        head=(
            "target FAR",
            "TAR",
            "95 %, single pairs",
            "95 %, over people",
            "FAR seen",
            "FAR at most",
            "cosine from",
            "false accepts expected",
        ),
        rows=[_point_row(point, confidence) for point in result.operating_points],
        notes=mark_notes(result.operating_points),
    )


def _interval_note(result: PairResult, confidence: Confidence | None) -> str:
    exact = "Single pairs: Clopper-Pearson, as if pairs were independent."
    if confidence is None:
        return exact
    known = "" if result.identities_known else ", told apart by the genuine pairs alone"
    drawn = f"{confidence.num_people} people{known}, {confidence.num_resamples} resamples"
    return f"{exact} Over people: bootstrap of {drawn}."


def _metric_rows(result: PairResult, confidence: Confidence | None) -> Iterator[tuple[str, str, str, str]]:
    known = {} if confidence is None else confidence.intervals
    pairs = clopper_pearson(int(np.count_nonzero(result.correct)), result.pairs)
    accuracy = f"{percent(result.accuracy, digits=3)} ± {percent(result.accuracy_std, digits=3)} %"
    exact = f"{percent(result.accuracy_exact, digits=3)} ± {percent(result.accuracy_exact_std, digits=3)} %"
    yield "accuracy, 10 folds, the field's protocol", accuracy, range_text(pairs), range_text(known.get("accuracy"))
    yield "accuracy, 10 folds, exact thresholds", exact, "", ""
    if result.val is not None:
        val = (
            f"{percent(result.val.val, digits=3)} ± {percent(result.val.val_std, digits=3)} %, FAR {result.val.far:.2e}"
        )
        yield f"VAL at FAR {far_label(VAL_FAR)}, the field's protocol", val, "", ""
    yield "AUC", f"{percent(result.auc, digits=4)} %", "", range_text(known.get("auc"), digits=3)
    yield "EER", f"{percent(result.eer, digits=3)} %", "", range_text(known.get("eer"))
    yield "d'", f"{result.d_prime:.3f}", "", ""
    yield "mean norm of the embeddings", f"{result.xnorm:.4g}", "", ""


def _point_row(point: OperatingPoint, confidence: Confidence | None) -> tuple[str, ...]:
    over_people = None if confidence is None else confidence.intervals.get(tar_name(point.far_target))
    return (
        far_label(point.far_target),
        f"{mark(point)}{percent(point.tar)} %",
        range_text(clopper_pearson(point.true_accepts, point.num_genuine)),
        range_text(over_people),
        f"{point.far:.2e}",
        f"{point.far_upper:.2e}",
        f"{point.threshold:.4f}",
        f"{point.expected_errors:.4g}",
    )


def _group_blocks(report: GroupReport) -> Iterator[Block]:
    yield Heading(text="Groups")
    yield Paragraph(
        text=f"Every group is judged at one threshold, cosine {report.point.threshold:.4f}, which gives FAR "
        f"{report.point.far:.2e} over all pairs (target {far_label(report.point.far_target)})."
    )
    small = any(rate.too_small for rate in report.rates)
    yield Table(
        head=("group", "impostor pairs", "FMR", "95 % interval", "genuine pairs", "FNMR", "95 % interval"),
        rows=[_group_row(rate) for rate in report.rates],
        notes=[
            "Intervals: Clopper-Pearson, as if pairs were independent. Where pairs share people they are too narrow.",
            *(["~ at the rate of all groups fewer than 30 errors are expected: too small to trust."] if small else []),
        ],
    )
    rows = [row for name, found in (("FMR", report.fmr), ("FNMR", report.fnmr)) if (row := _disparity_row(name, found))]
    if rows:
        yield Table(
            head=("rate", "worst group", "best group", "max / min", "max / geometric mean", "Gini"),
            rows=rows,
            notes=["Ratios as in NIST IR 8429; a rate of 0 leaves them undefined."],
        )


def _group_row(rate: GroupRates) -> tuple[str, ...]:
    def shown(value: float | None, *, trusted: bool) -> str:
        return "no pairs" if value is None else f"{'' if trusted else '~'}{value:.3e}"

    return (
        rate.group,
        f"{rate.num_impostor}",
        shown(rate.fmr, trusted=rate.fmr_trusted),
        f"{rate.fmr_interval.low:.2e} to {rate.fmr_interval.high:.2e}",
        f"{rate.num_genuine}",
        shown(rate.fnmr, trusted=rate.fnmr_trusted),
        f"{rate.fnmr_interval.low:.2e} to {rate.fnmr_interval.high:.2e}",
    )


def _disparity_row(name: str, found: Disparity | None) -> tuple[str, ...] | None:
    if found is None:
        return None
    ratios = (found.max_over_min, found.max_over_geometric_mean)
    shown = ("undefined" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    return (name, found.worst_group, found.best_group, *shown, f"{found.gini:.3f}")
