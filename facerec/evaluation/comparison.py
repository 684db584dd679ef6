"""Models side by side: results on the same sets, differences with intervals, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import UsageError
from facerec.evaluation.confidence import NUM_RESAMPLES, PairMeasure
from facerec.evaluation.report import result_to_json
from facerec.evaluation.result import PairResult
from facerec.metrics.bootstrap import Counts, draw_over_identities
from facerec.metrics.compare import Difference, McNemar, mcnemar_exact
from facerec.metrics.intervals import Interval

__all__ = [
    "Candidate",
    "ModelDifference",
    "SetComparison",
    "compare_candidates",
    "comparison_to_json",
    "same_pairs",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A model, or what is stored of it, with its results."""

    label: str
    source: str
    """What the user named."""
    results: Sequence[PairResult]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDifference:
    """How much a model differs from the first one, on the same pairs."""

    metrics: Mapping[str, Difference]
    """This model's value minus the first one's, with 95 % intervals over people."""
    mcnemar: McNemar
    """Pairs that only the first, and only this model decides correctly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SetComparison:
    """All models on one set; the sequences have one place for each model."""

    name: str
    results: Sequence[PairResult | None]
    """None where a model has no result on the set."""
    differences: Sequence[ModelDifference | None]
    """None for the first model, and where the pairs are not the same."""


def compare_candidates(candidates: Sequence[Candidate], *, num_resamples: int = NUM_RESAMPLES) -> list[SetComparison]:
    """Set the results of models side by side, and every model against the first.

    Sets are matched by name; where every model has exactly one set, those stand side by side under all their names.

    Raises:
        UsageError: fewer than two models, or no set that two of them share.
    """
    if len(candidates) < 2:
        raise UsageError("a comparison needs two models or more")
    if all(len(candidate.results) == 1 for candidate in candidates):
        row = [candidate.results[0] for candidate in candidates]
        rows = {" / ".join(dict.fromkeys(result.name for result in row)): row}
    else:
        names = dict.fromkeys(result.name for candidate in candidates for result in candidate.results)
        found = [{result.name: result for result in candidate.results} for candidate in candidates]
        every = {name: [results.get(name) for results in found] for name in names}
        rows = {name: row for name, row in every.items() if sum(result is not None for result in row) > 1}
    if not rows:
        raise UsageError("the models have no pair set in common; name one with --bin FILE")
    return [_compare_on_set(name, row, num_resamples=num_resamples) for name, row in rows.items()]


def same_pairs(first: PairResult, second: PairResult) -> bool:
    """Whether two results are known to be of the same pairs: the same file, or the same people pair by pair.

    People whom only the genuine pairs tell apart show nothing: most sets of one size look alike then.
    """
    if first.pairs != second.pairs or not np.array_equal(first.issame, second.issame):
        return False
    if first.sha256 == second.sha256:
        return True
    are_known = first.identities_known and second.identities_known
    return are_known and np.array_equal(_numbered(first.people), _numbered(second.people))


def comparison_to_json(candidates: Sequence[Candidate], sets: Sequence[SetComparison]) -> dict[str, Any]:
    """Plain data for JSON."""
    labels = [candidate.label for candidate in candidates]
    return {
        "models": {candidate.label: candidate.source for candidate in candidates},
        "sets": {
            one.name: {
                "results": {
                    label: {"set": result.name, **result_to_json(result)}
                    for label, result in zip(labels, one.results, strict=True)
                    if result is not None
                },
                "differences_to_first": {
                    label: _difference_to_json(found)
                    for label, found in zip(labels, one.differences, strict=True)
                    if found is not None
                },
            }
            for one in sets
        },
    }


def _compare_on_set(name: str, results: Sequence[PairResult | None], *, num_resamples: int) -> SetComparison:
    first = results[0]
    differences = [
        None
        if index == 0 or first is None or result is None or not same_pairs(first, result)
        else _difference(first, result, num_resamples=num_resamples)
        for index, result in enumerate(results)
    ]
    return SetComparison(name=name, results=results, differences=differences)


def _difference(first: PairResult, second: PairResult, *, num_resamples: int) -> ModelDifference:
    no_band = np.empty(0)
    ours, theirs = PairMeasure(first, no_band), PairMeasure(second, no_band)

    def measure(counts: Counts) -> NDArray[np.float64]:
        return theirs(counts) - ours(counts)

    known = second if second.identities_known else first
    draws = draw_over_identities(measure, genuine=first.issame, people=known.people, num_resamples=num_resamples)
    low, high = draws.interval()
    return ModelDifference(
        metrics={
            name: Difference(
                difference=float(draws.estimate[index]), interval=Interval(float(low[index]), float(high[index]))
            )
            for index, name in enumerate(ours.names)
        },
        mcnemar=mcnemar_exact(first.correct, second.correct),
    )


def _numbered(people: NDArray[np.int64]) -> NDArray[np.intp]:
    """People numbered in the order in which they first occur, so that names do not matter."""
    _, first_seen, codes = np.unique(people.ravel(), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_seen))[codes.ravel()]


def _difference_to_json(found: ModelDifference) -> dict[str, Any]:
    return {
        **{name: {"difference": one.difference, "interval": list(one.interval)} for name, one in found.metrics.items()},
        "mcnemar": {
            "only_first": found.mcnemar.only_first,
            "only_this": found.mcnemar.only_second,
            "p_value": found.mcnemar.p_value,
        },
    }
