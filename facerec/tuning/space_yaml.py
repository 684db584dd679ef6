"""The section ``space`` of a study: from plain data to dimensions, with a sentence for everything that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facerec.config.load import known_keys, unknown_config_key
from facerec.config.validate import PathProblem
from facerec.config.yamlio import KeyPath
from facerec.errors import near_match
from facerec.tuning.space import Dimension, Kind, Space

__all__ = ["parse_space"]

_KINDS: tuple[Kind, ...] = ("float", "int", "choice")
_OPTIONS = {"float": ("log", "step", "points"), "int": ("log", "step", "points"), "choice": ()}
_LOCKED = ("training.resume", "training.monitor", "training.mode", "checkpoint.", "logging.", "eval.bin_file", "device")


def parse_space(data: Mapping[str, Any], *, is_grid: bool) -> tuple[Space, list[PathProblem]]:
    """Read the dimensions; those that are wrong are reported and left out.

    Each value is such as ``{float: [0.01, 0.3], log: true}``, ``{int: [1, 9], step: 2}`` or ``{choice: [a, b]}``, with
    an optional ``when: {KEY: VALUE or [VALUES]}``; or a list of such, alternatives for different conditions.
    """
    problems: list[PathProblem] = []
    found_at: list[tuple[KeyPath, Dimension]] = []
    if not data:
        problems.append((("space",), "is empty; name at least one key to vary"))
    for key, entry in data.items():
        path: KeyPath = ("space", key)
        if reason := _refused_key(key):
            problems.append((path, reason))
            continue
        alternatives = entry if isinstance(entry, list) else [entry]
        for index, alternative in enumerate(alternatives):
            inner: KeyPath = (*path, index) if isinstance(entry, list) else path
            found = list(_wrong(alternative, inner, is_alternative=len(alternatives) > 1, is_grid=is_grid))
            problems += found
            if not found:
                found_at.append((inner, _build(key, alternative, is_alternative=len(alternatives) > 1)))
    ordered, unknown = _in_order([dimension for _, dimension in found_at])
    problems += [(("space", dimension.key), _unmet(dimension, data)) for dimension in unknown]
    problems += _impossible(found_at)
    problems += _overlapping(found_at)
    return Space(dimensions=tuple(ordered)), problems


def _refused_key(key: str) -> str:
    if key not in known_keys():
        return unknown_config_key(tuple(key.split(".")))
    if key.startswith(_LOCKED):
        return "belongs to the study itself or changes no result; it cannot be varied"
    return ""


def _wrong(entry: Any, path: KeyPath, *, is_alternative: bool, is_grid: bool) -> Iterator[PathProblem]:
    if not isinstance(entry, dict):
        yield path, "must be a section such as {float: [0.01, 0.3], log: true} or {choice: [a, b]}"
        return
    kinds = [kind for kind in _KINDS if kind in entry]
    if len(kinds) != 1:
        yield path, f"must say one of {', '.join(_KINDS)}, and says {', '.join(kinds) or 'none'}"
        return
    kind = kinds[0]
    known = (kind, "when", *_OPTIONS[kind])
    for name in entry:
        if name not in known:
            yield (*path, name), f"unknown key{near_match(str(name), known)}; {kind} takes {', '.join(known)}"
    if is_alternative and "when" not in entry:
        yield path, "is one of several alternatives and needs a condition (when)"
    if kind == "choice":
        yield from _wrong_choice(entry["choice"], (*path, "choice"))
    else:
        yield from _wrong_range(entry, kind, path, is_grid=is_grid)
    if "when" in entry and not (isinstance(entry["when"], dict) and entry["when"]):
        yield (*path, "when"), "must be a section such as {head.type: arcface}"


def _wrong_choice(choices: Any, path: KeyPath) -> Iterator[PathProblem]:
    if not isinstance(choices, list) or not choices:
        yield path, "must be a list of values"
    elif any(isinstance(choice, dict) for choice in choices):
        yield path, "values must be plain, or lists of plain values"
    elif any(choice in choices[:index] for index, choice in enumerate(choices)):
        yield path, "lists a value twice"


def _wrong_range(entry: Mapping[str, Any], kind: Kind, path: KeyPath, *, is_grid: bool) -> Iterator[PathProblem]:
    ends = entry[kind]
    numbers = (int,) if kind == "int" else (int, float)
    where = (*path, kind)
    is_pair = isinstance(ends, list) and len(ends) == 2
    if not is_pair or not all(isinstance(end, numbers) and not isinstance(end, bool) for end in ends):
        what = "whole numbers" if kind == "int" else "numbers"
        yield where, f"must be [low, high], two {what}"
        return
    low, high = ends
    if not low < high:
        yield where, f"must rise: {low} is not below {high}"
    log, step, points = (entry.get(name) for name in ("log", "step", "points"))
    if log is not None and not isinstance(log, bool):
        yield (*path, "log"), "must be true or false"
    if log is True and low <= 0:
        yield where, "a logarithmic range must be above 0"
    if step is not None and (not isinstance(step, numbers) or isinstance(step, bool) or not 0 < step <= high - low):
        yield (*path, "step"), "must be above 0 and at most the width of the range"
    elif log is True and step is not None:
        yield (*path, "step"), "cannot go with log: true"
    if points is not None and (not isinstance(points, int) or isinstance(points, bool) or points < 2):
        yield (*path, "points"), "must be a whole number of at least 2"
    elif points is not None and not is_grid:
        yield (*path, "points"), "has an effect with sampler.name: grid only; remove it"
    if is_grid and kind == "float" and step is None and points is None:
        yield path, "a grid needs `points` or `step` here"


def _build(key: str, entry: Mapping[str, Any], *, is_alternative: bool) -> Dimension:
    kind: Kind = next(kind for kind in _KINDS if kind in entry)
    when = {name: tuple(_listed(values)) for name, values in entry.get("when", {}).items()}
    condition = ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in when.items())
    low, high = (0.0, 0.0) if kind == "choice" else map(float, entry[kind])
    return Dimension(
        key=key,
        name=f"{key} ({condition})" if is_alternative else key,
        kind=kind,
        low=low,
        high=high,
        log=bool(entry.get("log", False)),
        step=entry.get("step"),
        points=entry.get("points"),
        choices=tuple(entry["choice"]) if kind == "choice" else (),
        when=when,
    )


def _impossible(found_at: list[tuple[KeyPath, Dimension]]) -> Iterator[PathProblem]:
    """Values of conditions that the key which they name never has."""
    for path, dimension in found_at:
        for key, values in dimension.when.items():
            named = [other for _, other in found_at if other.key == key]
            for value in values:
                if named and not any(other.contains(value) for other in named):
                    choices = [str(choice) for other in named for choice in other.choices]
                    held = "; or ".join(other.describe() for other in named)
                    hint = near_match(str(value), choices)
                    yield (*path, "when", key), f"{key} never is {value}{hint}: the space has {held}"


def _overlapping(found_at: list[tuple[KeyPath, Dimension]]) -> Iterator[PathProblem]:
    """Alternatives of a key whose conditions no key tells apart, so that both could hold."""
    for index, (path, dimension) in enumerate(found_at):
        for other_path, other in found_at[:index]:
            shared = dimension.when.keys() & other.when.keys()
            is_apart = any(all(value not in other.when[key] for value in dimension.when[key]) for key in shared)
            if dimension.key == other.key and not is_apart:
                yield (
                    path,
                    f"can hold together with alternative {other_path[-1]}; let their conditions exclude each other",
                )


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _in_order(dimensions: list[Dimension]) -> tuple[list[Dimension], list[Dimension]]:
    """Dimensions after those that their conditions name, and those whose conditions can never be told."""
    ordered: list[Dimension] = []
    waiting = list(dimensions)
    while waiting:
        left = {dimension.key for dimension in waiting}
        ready = [dimension for dimension in waiting if not (set(dimension.when) & left)]
        ready = [one for one in ready if set(one.when) <= {other.key for other in ordered}]
        if not ready:
            return ordered, waiting
        ordered += ready
        waiting = [dimension for dimension in waiting if dimension not in ready]
    return ordered, []


def _unmet(dimension: Dimension, data: Mapping[str, Any]) -> str:
    for key in dimension.when:
        if key not in data:
            return f"its condition names {key}, which the space does not vary{near_match(key, data)}"
    return "its condition depends on itself, or on a key that is wrong"
