"""Groups of people: which pair belongs to which, and how the groups' error rates differ."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError
from facerec.evaluation.result import PairResult
from facerec.metrics.groups import Disparity, GroupRates, disparity, group_rates
from facerec.metrics.roc import OperatingPoint, far_label, roc_curve, tar_at_far

__all__ = ["GROUP_FAR", "GroupReport", "group_report_to_json", "groups_of_images", "measure_groups", "read_groups"]

GROUP_FAR = 1e-3
"""FAR over all pairs at which the groups' common threshold lies."""
_MAX_BYTES = 1 << 28
_COLUMNS = ["pair", "group"]


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """The error rates of groups at one threshold for all."""

    point: OperatingPoint
    """The threshold, and what it gives over the pairs of all groups."""
    rates: tuple[GroupRates, ...]
    fmr: Disparity | None
    """None with fewer than two groups that have impostor pairs."""
    fnmr: Disparity | None


def measure_groups(
    results: Sequence[PairResult], groups: Sequence[NDArray[np.str_]], *, far: float = GROUP_FAR
) -> GroupReport:
    """Rates of each group at the threshold that all pairs together have at ``far``.

    Shape: ``groups[i]`` (P_i,), text: the group of each pair of ``results[i]``, empty for none. Pairs without a group
    do not count.

    Raises:
        MetricError: no pair has a group, or the pairs with one are of one kind only.
    """
    scores, issame, names = (
        np.concatenate(arrays) for arrays in ([r.scores for r in results], [r.issame for r in results], list(groups))
    )
    chosen = names != ""
    if chosen.any():
        scores, issame, names = scores[chosen], issame[chosen], names[chosen]
    point = tar_at_far(roc_curve(scores, issame), far)
    rates = group_rates(scores, issame, groups=names, threshold=point.threshold)
    return GroupReport(
        point=point,
        rates=tuple(rates),
        fmr=_disparity({rate.group: rate.fmr for rate in rates}),
        fnmr=_disparity({rate.group: rate.fnmr for rate in rates}),
    )


def groups_of_images(image_groups: NDArray[np.str_], pair_index: NDArray[np.integer]) -> NDArray[np.str_]:
    """The group of each pair whose images share one; pairs across groups have none."""
    first, second = image_groups[pair_index[:, 0]], image_groups[pair_index[:, 1]]
    return np.where(first == second, first, "")


def read_groups(path: str | Path, *, num_pairs: int) -> NDArray[np.str_]:
    """Read a CSV with the columns ``pair`` (from 0 on) and ``group``; pairs that are not listed have no group.

    Raises:
        MissingPathError: the file is not there.
        DataError: a line is no such pair, or names one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(f"file of groups {path} does not exist; check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path} has more than {_MAX_BYTES} bytes; a file of groups has a short line per pair")
    found: dict[int, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            if [name.strip().lower() for name in next(lines, [])] != _COLUMNS:
                raise DataError(f"{path}: the first line must be {','.join(_COLUMNS)}")
            for number, line in enumerate(lines, start=2):
                if line:
                    pair, group = _read_line(line, f"{path}: line {number}", num_pairs=num_pairs)
                    if pair in found:
                        raise DataError(f"{path}: line {number} names pair {pair} again")
                    found[pair] = group
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error
    groups = np.full(num_pairs, "", dtype=f"<U{max(map(len, found.values()), default=1)}")
    for pair, group in found.items():
        groups[pair] = group
    return groups


def group_report_to_json(report: GroupReport) -> dict[str, Any]:
    """A report as plain data for JSON."""
    return {
        "far_target": far_label(report.point.far_target),
        "threshold": report.point.threshold,
        "far": report.point.far,
        "tar": report.point.tar,
        "groups": {rate.group: _rate_to_json(rate) for rate in report.rates},
        "fmr": _disparity_to_json(report.fmr),
        "fnmr": _disparity_to_json(report.fnmr),
    }


def _read_line(line: list[str], where: str, *, num_pairs: int) -> tuple[int, str]:
    text = line[0].strip()
    if len(line) != len(_COLUMNS) or not (text.isascii() and text.isdecimal()) or not line[1].strip():
        raise DataError(f"{where} must hold the number of a pair and the name of its group")
    if len(text) > 12 or int(text) >= num_pairs:
        raise DataError(f"{where}: there is no pair {text[:20]}, they are numbered 0 to {num_pairs - 1}")
    return int(text), line[1].strip()[:80]


def _disparity(rates: Mapping[str, float | None]) -> Disparity | None:
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return disparity(known) if len(known) > 1 else None


def _rate_to_json(rate: GroupRates) -> dict[str, Any]:
    return {
        "fmr": rate.fmr,
        "fnmr": rate.fnmr,
        "fmr_interval": list(rate.fmr_interval),
        "fnmr_interval": list(rate.fnmr_interval),
        "impostor": rate.num_impostor,
        "genuine": rate.num_genuine,
        "false_matches": rate.false_matches,
        "false_non_matches": rate.false_non_matches,
        "fmr_trusted": rate.fmr_trusted,
        "fnmr_trusted": rate.fnmr_trusted,
        "too_small": rate.too_small,
    }


def _disparity_to_json(found: Disparity | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "worst_group": found.worst_group,
        "best_group": found.best_group,
        "max_over_min": found.max_over_min,
        "max_over_geometric_mean": found.max_over_geometric_mean,
        "gini": found.gini,
    }
