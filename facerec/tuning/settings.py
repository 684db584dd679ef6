"""Settings of a space laid over a configuration, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facerec.config.load import find_problems
from facerec.config.validate import PathProblem, copy_plain
from facerec.errors import near_match
from facerec.tuning.space import Space, set_dotted

__all__ = ["applicable", "config_problems", "lay_over", "outside_problems", "range_problems"]


def lay_over(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with values set by dotted key."""
    merged: dict[str, Any] = copy_plain(dict(data))
    for key, value in values.items():
        set_dotted(merged, key, value)
    return merged


def config_problems(data: dict[str, Any]) -> list[PathProblem]:
    """What is wrong with plain data of a configuration."""
    return find_problems(data)[1]


def applicable(space: Space, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys whose condition holds, with their values."""
    for dimension in space.dimensions:
        if dimension.applies(values):
            yield dimension.key, values[dimension.key]


def outside_problems(
    space: Space, baseline: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]
) -> Iterator[PathProblem]:
    """Values of the baseline and of the seeds that the space does not hold."""
    for dimension, value in space.outside(baseline):
        yield (
            ("space", dimension.key),
            f"the baseline's {value} is not in the range ({dimension.describe()}); widen the range, or set the key "
            "under `set`",
        )
    keys = {dimension.key for dimension in space.dimensions}
    for index, seed in enumerate(seeds):
        for key in seed:
            if key not in keys:
                yield ("seeds", index, key), f"is not a key of the space{near_match(key, keys)}"
        known = {key: value for key, value in seed.items() if key in keys}
        for dimension, value in space.outside(dict(baseline) | known):
            if dimension.key in known:
                yield ("seeds", index, dimension.key), f"{value} is not in the range ({dimension.describe()})"
        idle = known.keys() - dict(applicable(space, dict(baseline) | known)).keys()
        for key in sorted(idle):
            yield ("seeds", index, key), "has no effect, because its condition does not hold; remove it"


def range_problems(space: Space, base_data: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[PathProblem]:
    """Ends of ranges, and choices, that no configuration may have; the other keys are as in the baseline."""
    for dimension in space.dimensions:
        context = dict(baseline) | {key: allowed[0] for key, allowed in dimension.when.items()}
        told: set[str] = set()
        for end in dimension.ends():
            values = dict(applicable(space, _completed(space, context | {dimension.key: end})))
            for path, sentence in config_problems(lay_over(base_data, space.overlay(values))):
                dotted = ".".join(map(str, path))
                text = f"{end}: {sentence}" if dotted == dimension.key else f"{end} makes {dotted} wrong: {sentence}"
                if text not in told:
                    told.add(text)
                    yield ("space", dimension.key), text


def _completed(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Values for keys whose condition holds here but not in the baseline: their first end."""
    for dimension in space.dimensions:
        if dimension.applies(values) and not dimension.contains(values.get(dimension.key)):
            values = values | {dimension.key: dimension.ends()[0]}
    return values
