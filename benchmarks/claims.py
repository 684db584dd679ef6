"""What every benchmark prints: claims, each a number with its spread over the rounds and the target that it is held to.

With ``--json`` a benchmark prints one object: ``{"settings": {…}, "claims": [{…}, …]}``, a claim with the fields of
`Claim`. `run_all.py` gathers these into ``docs/results.md``.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence

__all__ = ["Claim", "Target", "absolute", "claim_from_dict", "number", "ratio", "show", "side"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A bound that a value is held to."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value is within the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return ", ".join(f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One line of a table."""

    name: str
    value: float | None
    """The median over the rounds; None where it was not measured."""
    unit: str = "ratio"
    low: float | None = None
    """The least of the rounds; with ``spread`` another bound."""
    high: float | None = None
    rounds: int = 1
    spread: str = "min–max"
    target: Target | None = None
    ours: str = ""
    """Our side of a ratio, with its unit."""
    other: str = ""
    """The other side."""
    against: str = ""
    """What the value is a ratio to; empty for a value that stands by itself."""
    peer_given: bool = True
    """False where the other side is a peer whose folder was not given, so that there is no ratio."""
    seed: int | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None without target or value."""
        return None if self.target is None or self.value is None else self.target.holds(self.value)


def ratio(
    name: str,
    numerators: Sequence[float],
    *,
    to: Sequence[float],
    against: str,
    ours: str = "",
    other: str = "",
    target: Target | None = None,
    seed: int | None = None,
    note: str = "",
) -> Claim:
    """The median of the ratios round by round; without ``to`` the line of a peer that was not given.

    Args:
        name: What was done.
        numerators: One figure for each round.
        to: The figures of the other side in the same rounds; empty where the peer is not given.
        against: Who the other side is.
        ours: Our own figure, for people; see `side`.
        other: The other side's.
        target: What the ratio is held to.
        seed: Of the work, where one matters.
        note: What else a reader must know.
    """
    common = {"name": name, "against": against, "target": target, "ours": ours, "seed": seed, "note": note}
    if not to:
        return Claim(value=None, peer_given=False, rounds=len(numerators), **common)
    found = [one / another for one, another in zip(numerators, to, strict=True)]
    return Claim(
        value=statistics.median(found), low=min(found), high=max(found), rounds=len(found), other=other, **common
    )


def absolute(
    name: str,
    values: Sequence[float],
    *,
    unit: str,
    target: Target | None = None,
    seed: int | None = None,
    note: str = "",
) -> Claim:
    """The median of figures that stand by themselves."""
    value = statistics.median(values)
    spread = {"low": min(values), "high": max(values), "rounds": len(values)}
    return Claim(name=name, value=value, unit=unit, target=target, seed=seed, note=note, **spread)


def side(values: Sequence[float], unit: str) -> str:
    """The median of one side with its unit; empty without values."""
    return f"{number(statistics.median(values))} {unit}" if values else ""


def number(value: float) -> str:
    """A number with three digits that count, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show(claims: Sequence[Claim], settings: Mapping[str, object], *, as_json: bool) -> str:
    """The claims as the object that ``--json`` prints, or as a table for people."""
    if as_json:
        return json.dumps({"settings": dict(settings), "claims": [dataclasses.asdict(claim) for claim in claims]})
    lines = [", ".join(f"{key} {value}" for key, value in settings.items())] if settings else []
    width = max(len(claim.name) for claim in claims)
    rows = (f"{claim.name:<{width}}  {_value(claim):>10}  {_for_people(claim)}" for claim in claims)
    return "\n".join([*lines, *rows])


def claim_from_dict(data: Mapping[str, object]) -> Claim:
    """A claim as ``--json`` gives it.

    Raises:
        TypeError: a field is missing or unknown.
    """
    target = data.get("target")
    return Claim(**{**data, "target": Target(**target) if isinstance(target, dict) else None})  # type: ignore[arg-type]


def _value(claim: Claim) -> str:
    if claim.value is None:
        return "–"
    return number(claim.value) if claim.unit == "ratio" else f"{number(claim.value)} {claim.unit}"


def _for_people(claim: Claim) -> str:
    parts = []
    if claim.low is not None and claim.high is not None:
        parts.append(f"{number(claim.low)} to {number(claim.high)} ({claim.spread}, {claim.rounds} rounds)")
    if claim.target is not None:
        verdict = {True: "holds", False: "MISSED", None: "not measured"}[claim.holds]
        parts.append(f"target {claim.target}: {verdict}")
    if claim.ours or claim.other:
        parts.append(" against ".join(text for text in (claim.ours, claim.other) if text))
    if claim.against:
        parts.append(claim.against if claim.peer_given else f"{claim.against}: peer not given")
    return "; ".join([*parts, claim.note] if claim.note else parts)
