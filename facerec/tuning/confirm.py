"""The best settings again with fresh seeds, and whether their gain exceeds its noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facerec.tuning.plan import StudyPlan
from facerec.tuning.slots import Slot, counted_trials, results

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = [
    "REPORT_ATTR",
    "SEED_ATTR",
    "Candidate",
    "Verdict",
    "best_trials",
    "confirmation_slots",
    "fresh_seeds",
    "judge_confirmation",
    "read_candidates",
    "slot_key",
    "student_interval",
]

CANDIDATE_ATTR = "facerec.candidate"
SEED_ATTR = "facerec.seed"
REPORT_ATTR = "facerec.report_values"
BASELINE_NUMBER = 0

_NO_SPREAD = 1e-9


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A setting and its confirmed results."""

    number: int
    """The trial of the search that found it; the baseline's for the baseline."""
    is_baseline: bool
    values: dict[str, Any]
    search_value: float | None
    """What the search saw; None where the baseline failed there."""
    by_seed: dict[int, float]
    """The confirmed value of each seed that has trained."""

    @property
    def mean(self) -> float | None:
        """The mean over the seeds."""
        return statistics.fmean(self.by_seed.values()) if self.by_seed else None

    @property
    def std(self) -> float | None:
        """The standard deviation over the seeds, unbiased."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a confirmation says."""

    winner: Candidate
    """The setting with the best confirmed mean; the baseline, where no setting surpasses it."""
    gain: float | None
    """The mean paired difference to the baseline, above 0 where it is better."""
    interval: tuple[float, float] | None
    """Of the gain; None where the seeds do not differ, so that nothing shows how large its noise is."""
    confidence: float
    exceeds_noise: bool
    sentence: str


def best_trials(trials: Sequence[FrozenTrial], plan: StudyPlan, *, count: int) -> list[FrozenTrial]:
    """The best complete trials, each setting once; the baseline's is left out, whoever has drawn it."""
    complete = [one for one in counted_trials(trials) if one.state.name == "COMPLETE"]
    baseline = plan.space.to_params(plan.baseline)
    complete = [one for one in complete if not one.user_attrs.get("facerec.baseline") and one.params != baseline]
    ranked = sorted(complete, key=lambda one: (-plan.objective.sign * results(one)[0], one.number))
    chosen: list[FrozenTrial] = []
    for trial in ranked:
        if all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    return chosen[:count]


def confirmation_slots(trials: Sequence[FrozenTrial], plan: StudyPlan) -> list[Slot]:
    """A slot for every seed of every candidate and of the baseline, seed by seed."""
    settings = plan.study.confirm
    if not settings.top_k:
        return []
    candidates = [(trial.number, trial.params) for trial in best_trials(trials, plan, count=settings.top_k)]
    everyone = [(BASELINE_NUMBER, plan.space.to_params(plan.baseline)), *candidates]
    return [
        Slot(
            key=slot_key(number, seed),
            params=params,
            attrs={CANDIDATE_ATTR: number, SEED_ATTR: seed, "facerec.baseline": number == BASELINE_NUMBER},
        )
        for seed in fresh_seeds(plan)
        for number, params in everyone
    ]


def slot_key(number: int, seed: int) -> str:
    """The slot, and the folder, of the candidate that trial ``number`` found, trained again with ``seed``."""
    return f"{number:04d}-seed{seed}"


def fresh_seeds(plan: StudyPlan) -> list[int]:
    """Seeds that the search did not train with."""
    used = {plan.base.seed}
    for dimension in plan.space.dimensions:
        if dimension.key == "seed":
            used |= set(dimension.grid() or [])
    start = max(used) + 1
    return list(range(start, start + plan.study.confirm.seeds))


def read_candidates(
    trials: Sequence[FrozenTrial], confirmations: Sequence[FrozenTrial], plan: StudyPlan
) -> list[Candidate]:
    """The baseline and the candidates with what has been confirmed so far."""
    holders = {one.user_attrs["facerec.slot"]: one for one in counted_trials(trials)}
    baseline = holders.get("0000")
    chosen = best_trials(trials, plan, count=plan.study.confirm.top_k)
    people: list[tuple[int, FrozenTrial | None]] = [(BASELINE_NUMBER, baseline)]
    people += [(trial.number, trial) for trial in chosen]
    return [
        Candidate(
            number=number,
            is_baseline=number == BASELINE_NUMBER,
            values=plan.baseline
            if trial is None or number == BASELINE_NUMBER
            else plan.space.from_params(trial.params),
            search_value=results(trial)[0] if trial is not None and trial.state.name == "COMPLETE" else None,
            by_seed=_confirmed(confirmations, number, plan),
        )
        for number, trial in people
    ]


def judge_confirmation(candidates: Sequence[Candidate], plan: StudyPlan) -> Verdict | None:
    """Whether the best confirmed setting beats the baseline by more than the noise of its seeds.

    Differences are paired by seed; the interval is Student's. With k candidates each is judged at 1 - (1 - c) / k
    (Bonferroni), because the best of several is chosen after looking. A setting that failed with more seeds than
    another one does not compete: the mean of the seeds that it survived flatters it. Where all differences are equal
    there is no interval, and the gain does not count as beyond its noise. None where nothing was confirmed.
    """
    sign = plan.objective.sign
    baseline = next(one for one in candidates if one.is_baseline)
    confirmed = [one for one in candidates if not one.is_baseline and one.mean is not None]
    if not confirmed and baseline.mean is None:
        return None
    most = max((_num_shared(one, baseline) for one in confirmed), default=0)
    steady = [one for one in confirmed if _num_shared(one, baseline) == most]
    best = max(steady, key=lambda one: sign * (one.mean or 0.0), default=baseline)
    confidence = 1 - (1 - plan.study.confirm.confidence) / max(1, len(confirmed))
    common = sorted(set(best.by_seed) & set(baseline.by_seed))
    differences = [sign * (best.by_seed[seed] - baseline.by_seed[seed]) for seed in common]
    if best is baseline or len(differences) < 2:
        sentence = "no two seeds trained both the baseline and a setting, so nothing can be said about the gain"
        return Verdict(
            winner=best, gain=None, interval=None, confidence=confidence, exceeds_noise=False, sentence=sentence
        )
    gain = statistics.fmean(differences)
    # To a billionth, because differences of equal numbers differ in their last digit.
    has_spread = max(differences) - min(differences) > _NO_SPREAD
    interval = student_interval(differences, confidence=confidence) if has_spread else None
    exceeds = interval is not None and interval[0] > 0
    winner = best if gain > 0 else baseline
    return Verdict(
        winner=winner,
        gain=gain,
        interval=interval,
        confidence=confidence,
        exceeds_noise=exceeds,
        sentence=_sentence(best, gain, interval, confidence=confidence, seeds=len(common), label=plan.objective.label),
    )


def _num_shared(one: Candidate, other: Candidate) -> int:
    return len(set(one.by_seed) & set(other.by_seed))


def student_interval(differences: Sequence[float], *, confidence: float) -> tuple[float, float]:
    """Student's interval of the mean of at least two differences.

    Source: Student 1908, The probable error of a mean.
    """
    from scipy import stats

    count = len(differences)
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / count**0.5
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return mean - reach, mean + reach


def _sentence(
    best: Candidate, gain: float, interval: tuple[float, float] | None, *, confidence: float, seeds: int, label: str
) -> str:
    numbers = f"{gain:+.4f} {label} over {seeds} seeds"
    if interval is not None:
        numbers += f", {100 * confidence:.3g} % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
    if gain <= 0:
        return f"no confirmed setting is better than the baseline (trial {best.number}: {numbers}); keep the baseline"
    if interval is None:
        return (
            f"trial {best.number} is better than the baseline ({numbers}), by as much with each seed, so how large the "
            "noise of the gain is cannot be told"
        )
    if interval[0] > 0:
        return f"the gain of trial {best.number} over the baseline exceeds its noise ({numbers})"
    return f"the gain of trial {best.number} over the baseline does not exceed its noise ({numbers})"


def _confirmed(confirmations: Sequence[FrozenTrial], number: int, plan: StudyPlan) -> dict[int, float]:
    seeds = set(fresh_seeds(plan))
    found: dict[int, float] = {}
    for trial in counted_trials(confirmations):
        attrs = trial.user_attrs
        if attrs.get(CANDIDATE_ATTR) == number and trial.state.name == "COMPLETE" and attrs[SEED_ATTR] in seeds:
            found[attrs[SEED_ATTR]] = attrs[REPORT_ATTR][0] if REPORT_ATTR in attrs else results(trial)[0]
    return found
