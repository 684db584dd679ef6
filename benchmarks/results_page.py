"""The part of ``docs/results.md`` that ``make bench`` writes; what stands outside of its two marks is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claims import Claim, claim_from_dict, number

__all__ = ["BEGIN", "END", "Measured", "from_dict", "to_dict", "write_page"]

BEGIN = "<!-- make bench: what follows is written by it -->"
END = "<!-- make bench: end -->"
_BUSY = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What one benchmark gave."""

    title: str
    command: str
    date: str
    seconds: float
    machine: str
    others_share: float = 0.0
    """The share of the processor that other work used just before."""
    claims: Sequence[Claim] = ()
    failure: str = ""
    absent: str = ""
    """Why it was not run."""


def to_dict(measured: Measured) -> dict[str, Any]:
    """As plain data."""
    return dataclasses.asdict(measured)


def from_dict(data: Mapping[str, Any]) -> Measured:
    """The inverse of `to_dict`."""
    return Measured(**{**data, "claims": [claim_from_dict(claim) for claim in data["claims"]]})


def write_page(page: Path | None, results: Mapping[str, Measured]) -> str:
    """Replace the marked part of the page, if there is one; returns that part.

    Raises:
        SystemExit: the page lacks its marks.
    """
    part = render(list(results.values()))
    if page is None:
        return part
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: the lines '{BEGIN}' and '{END}' are missing; put them where the results shall stand")
    page.write_text(f"{head}{BEGIN}\n\n{part}\n{END}{tail}", encoding="utf-8")
    return part


def render(results: Sequence[Measured]) -> str:
    """All tables, after a line that counts the targets."""
    verdicts = [claim.holds for measured in results for claim in measured.claims if claim.target is not None]
    failed = sum(bool(measured.failure) for measured in results)
    counts = (
        f"{verdicts.count(True)} targets hold, {verdicts.count(False)} are missed, {verdicts.count(None)} lack a peer"
    )
    if failed:
        counts += f"; {failed} benchmark(s) failed"
    return "\n".join([f"{counts}.", *(section(measured) for measured in results)])


def section(measured: Measured) -> str:
    """One benchmark: its command, its machine, its lines."""
    lines = [f"\n### {measured.title}\n", f"`{measured.command}`"]
    if measured.absent:
        return "\n".join([*lines, f"\n{measured.absent}: not measured.\n"])
    lines.append(f"· {measured.date}, {measured.seconds:.0f} s · {measured.machine}")
    if measured.others_share > _BUSY:
        lines.append(f"· **other work used {100 * measured.others_share:.0f} % of the processor just before**")
    if measured.failure:
        return "\n".join([*lines, f"\n**{measured.failure}**\n"])
    lines += ["\n| what | value | spread | target | ours | other | remarks |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(row(claim) for claim in measured.claims), ""])


def row(claim: Claim) -> str:
    """One line of a table."""
    value = "–" if claim.value is None else f"**{number(claim.value)}**"
    if claim.unit != "ratio" and claim.value is not None:
        value += f" {claim.unit}"
    remarks = [] if claim.peer_given else ["peer not given"]
    remarks += [claim.note] if claim.note else []
    remarks += [f"seed {claim.seed}"] if claim.seed is not None else []
    other = f"{claim.other}, {claim.against}" if claim.other else claim.against
    cells = [claim.name, value, _spread(claim), _target(claim), claim.ours, other, "; ".join(remarks)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _spread(claim: Claim) -> str:
    if claim.low is None or claim.high is None:
        return ""
    if claim.rounds == 1:
        return "one round"
    kind = "" if claim.spread == "min–max" else f"{claim.spread}, "
    return f"{number(claim.low)} to {number(claim.high)} ({kind}{claim.rounds} rounds)"


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    verdict = {True: "holds", False: "**missed**", None: ""}[claim.holds]
    return f"{claim.target} {verdict}".strip()
