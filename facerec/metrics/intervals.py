"""How far a measured rate can be trusted."""

from __future__ import annotations

from typing import NamedTuple

from facerec.errors import MetricError

__all__ = ["Interval", "clopper_pearson", "upper_bound"]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a rate of which ``successes`` of ``trials`` were seen; it covers at least ``confidence``.

    Raises:
        MetricError: no trials, more successes than trials, or a confidence outside (0, 1).

    Source: Clopper and Pearson 1934, Biometrika 26(4).

    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    _check_counts(successes, trials, confidence)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, trials - successes + 1)
    high = 1.0 if successes == trials else _beta_quantile(1.0 - tail, successes + 1, trials - successes)
    return Interval(low, high)


def upper_bound(successes: int, trials: int, *, confidence: float = 0.95) -> float:
    """Largest rate that ``successes`` of ``trials`` leaves plausible: the one-sided form of `clopper_pearson`.

    Without any success it is about 3 / ``trials``, the "rule of three".

    Raises:
        MetricError: see `clopper_pearson`.

    >>> round(upper_bound(0, 3000) * 3000, 2)
    2.99
    """
    _check_counts(successes, trials, confidence)
    return 1.0 if successes == trials else _beta_quantile(confidence, successes + 1, trials - successes)


def _beta_quantile(probability: float, a: int, b: int) -> float:
    # scipy.special, not scipy.stats: the latter takes a second to import.
    from scipy.special import betaincinv

    return float(betaincinv(a, b, probability))


def _check_counts(successes: int, trials: int, confidence: float) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise MetricError(f"a rate needs 0 <= successes <= trials and trials >= 1, not {successes} of {trials}")
    if not 0.0 < confidence < 1.0:
        raise MetricError(f"confidence must lie between 0 and 1, not {confidence}")
