"""Error rates of groups of people at one global threshold, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facerec.errors import MetricError
from facerec.metrics.checks import check_pairs
from facerec.metrics.intervals import Interval, clopper_pearson

__all__ = ["Disparity", "GroupRates", "disparity", "group_rates"]

_TRUSTED_ERRORS = 30.0


@dataclass(frozen=True, kw_only=True)
class GroupRates:
    """How often a threshold errs on the pairs of one group."""

    group: str
    fmr: float | None
    """None where the group has no impostor pair."""
    fnmr: float | None
    """None where the group has no genuine pair."""
    false_matches: int
    false_non_matches: int
    num_impostor: int
    num_genuine: int
    fmr_interval: Interval
    """95 %, Clopper-Pearson, as if pairs were independent; (0, 1) without pairs."""
    fnmr_interval: Interval
    fmr_trusted: bool
    """The impostor pairs would show at least 30 false matches at the rate of all groups together."""
    fnmr_trusted: bool
    """The genuine pairs would show at least 30 false non-matches at the rate of all groups together."""

    @property
    def too_small(self) -> bool:
        """Whether either rate rests on too few pairs."""
        return not (self.fmr_trusted and self.fnmr_trusted)


@dataclass(frozen=True, kw_only=True)
class Disparity:
    """The ratios of a rate between groups; None where a rate of 0 leaves a ratio undefined."""

    worst_group: str
    best_group: str
    max_over_min: float | None
    """Worst rate / best rate."""
    max_over_geometric_mean: float | None
    """Worst rate / geometric mean of the groups' rates."""
    gini: float
    """Gini coefficient of the groups' rates with the correction for few groups, 0 for equal rates."""


def group_rates(
    scores: ArrayLike, genuine: ArrayLike, *, groups: Sequence[str] | ArrayLike, threshold: float
) -> list[GroupRates]:
    """FMR and FNMR of each group at one threshold, in the order in which groups first occur.

    A threshold of each group's own would hide the differences that people meet in use, where there is one.

    Shape: scores (P,) real, genuine (P,) bool, groups (P,) text; a pair without a group has an empty text.

    Raises:
        MetricError: see `facerec.metrics.checks.check_pairs`; the lengths differ; no pair has a group.

    Source: NIST IR 8280, FRVT part 3: demographic effects; ISO/IEC 19795-10.

    >>> rates = group_rates([0.9, 0.2, 0.8, 0.7], [1, 0, 1, 0], groups=["a", "a", "b", "b"], threshold=0.5)
    >>> [(rate.group, rate.fmr, rate.fnmr, rate.too_small) for rate in rates]
    [('a', 0.0, 0.0, True), ('b', 1.0, 0.0, True)]
    """
    values, labels = check_pairs(scores, genuine)
    names = np.asarray(groups)
    if names.shape != values.shape:
        raise MetricError(f"there are {values.size} pairs but groups of shape {names.shape}; give one group per pair")
    known, first_seen = np.unique(names, return_index=True)
    known = known[np.argsort(first_seen)]
    known = known[known != ""]
    if not known.size:
        raise MetricError("no pair has a group")
    accepted = values >= threshold
    overall = float(np.mean(accepted[~labels])), float(np.mean(~accepted[labels]))
    rates = []
    for name in known:
        here = names == name
        num_genuine, num_impostor = (int(np.count_nonzero(here & kind)) for kind in (labels, ~labels))
        false_matches = int(np.count_nonzero(here & ~labels & accepted))
        misses = int(np.count_nonzero(here & labels & ~accepted))
        rates.append(
            GroupRates(
                group=str(name),
                fmr=false_matches / num_impostor if num_impostor else None,
                fnmr=misses / num_genuine if num_genuine else None,
                false_matches=false_matches,
                false_non_matches=misses,
                num_impostor=num_impostor,
                num_genuine=num_genuine,
                fmr_interval=_interval(false_matches, num_impostor),
                fnmr_interval=_interval(misses, num_genuine),
                fmr_trusted=overall[0] * num_impostor >= _TRUSTED_ERRORS,
                fnmr_trusted=overall[1] * num_genuine >= _TRUSTED_ERRORS,
            )
        )
    return rates


def disparity(rates: dict[str, float]) -> Disparity:
    """How unequal the rates of groups are, in the ratios that NIST reports.

    Raises:
        MetricError: fewer than two groups, or a negative or infinite rate.

    Source: NIST IR 8429 (2022), summary measures of demographic differentials: max / min, max / geometric mean, Gini.

    >>> result = disparity({"a": 0.001, "b": 0.004})
    >>> round(result.max_over_min, 6), round(result.max_over_geometric_mean, 6), round(result.gini, 6)
    (4.0, 2.0, 0.6)
    """
    if len(rates) < 2:
        raise MetricError("rates can be compared between two groups or more")
    values = np.array(list(rates.values()))
    if not np.isfinite(values).all() or values.min() < 0.0:
        raise MetricError("a rate of a group is negative or not finite")
    worst, best = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    positive = values.min() > 0.0
    return Disparity(
        worst_group=worst,
        best_group=best,
        max_over_min=rates[worst] / rates[best] if positive else None,
        max_over_geometric_mean=rates[worst] / math.exp(np.log(values).mean()) if positive else None,
        gini=_gini(values),
    )


def _gini(values: np.ndarray) -> float:
    if values.sum() == 0.0:
        return 0.0
    differences = np.abs(values[:, None] - values[None, :]).sum()
    count = values.size
    return float(differences / (2.0 * count * count * values.mean()) * count / (count - 1))


def _interval(errors: int, trials: int) -> Interval:
    return clopper_pearson(errors, trials) if trials else Interval(0.0, 1.0)
