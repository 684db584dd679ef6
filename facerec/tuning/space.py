"""The search space: what is varied, over which values, and under which condition."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["Dimension", "Kind", "Space", "Suggester", "set_dotted"]

Kind = Literal["float", "int", "choice"]


class Suggester(Protocol):
    """What the space needs of an Optuna trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One varied key, or one of its conditional alternatives."""

    key: str
    """The dotted key of the configuration."""
    name: str
    """The parameter's name in the study: the key, with the condition where the key has alternatives."""
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    points: int | None = None
    """grid only: points between the ends, both included."""
    choices: tuple[Any, ...] = ()
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Other keys and the values of them under which this one is varied."""

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds; ``values`` are by key."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    def suggest(self, trial: Suggester) -> Any:
        """Ask for a value."""
        if self.kind == "choice":
            stored = trial.suggest_categorical(self.name, [self.to_stored(choice) for choice in self.choices])
            return self.from_stored(stored)
        if self.kind == "int":
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Whether the value is one that could be suggested."""
        if self.kind == "choice":
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        if self.kind == "int" and value != int(value):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def to_stored(self, value: Any) -> Any:
        """A value as a study can hold it: lists as JSON text."""
        return json.dumps(value) if isinstance(value, (list, tuple)) else value

    def from_stored(self, stored: Any) -> Any:
        """The value that `to_stored` made."""
        if self.kind != "choice":
            return stored
        return next((choice for choice in self.choices if self.to_stored(choice) == stored), stored)

    def ends(self) -> tuple[Any, ...]:
        """The values that must be valid for all to be: both ends of a range, or every choice."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)

    def grid(self) -> list[Any] | None:
        """Every value, in order; None for a continuous range without `points` or `step`."""
        if self.kind == "choice":
            return list(self.choices)
        if self.points is not None:
            values = _spaced(self.low, self.high, count=self.points, log=self.log)
            return list(dict.fromkeys(round(value) for value in values)) if self.kind == "int" else values
        step = self.step or (1 if self.kind == "int" else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [float(f"{self.low + index * step:.12g}") for index in range(count)]
        return [int(value) for value in values] if self.kind == "int" else values

    def describe(self) -> str:
        """One line for people."""
        if self.kind == "choice":
            text = "one of " + ", ".join(map(str, self.choices))
        else:
            text = f"{self.kind} {self.low:g} to {self.high:g}"
            text += ", log" if self.log else ""
            text += f", step {self.step:g}" if self.step else ""
            text += f", {self.points} points" if self.points else ""
        condition = " and ".join(f"{key} is {' or '.join(map(str, values))}" for key, values in self.when.items())
        return f"{text}, when {condition}" if condition else text


@dataclass(frozen=True, kw_only=True)
class Space:
    """All dimensions, those that conditions name before those that depend on them."""

    dimensions: tuple[Dimension, ...]

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """A setting: the value of every key whose condition holds."""
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.applies(values):
                values[dimension.key] = dimension.suggest(trial)
        return values

    def from_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The setting that the stored parameters of a trial mean."""
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.name in params and dimension.applies(values):
                values[dimension.key] = dimension.from_stored(params[dimension.name])
        return values

    def to_params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters by which a study stores a setting; what the space does not hold is left out."""
        return {
            dimension.name: dimension.to_stored(values[dimension.key])
            for dimension in self.dimensions
            if dimension.key in values and dimension.applies(values)
        }

    def outside(self, values: Mapping[str, Any]) -> Iterator[tuple[Dimension, Any]]:
        """The dimensions that apply and do not hold the setting's value of their key."""
        for dimension in self.dimensions:
            if dimension.applies(values) and not dimension.contains(values.get(dimension.key)):
                yield dimension, values.get(dimension.key)

    def overlay(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a setting changes in the base configuration; None removes a key whose condition does not hold."""
        conditional = {dimension.key: None for dimension in self.dimensions if dimension.when}
        return conditional | dict(values)

    def grid(self) -> list[dict[str, Any]] | None:
        """Every setting, or None where a dimension is continuous."""
        settings: list[dict[str, Any]] = [{}]
        for dimension in self.dimensions:
            points = dimension.grid()
            if points is None:
                return None
            settings = [
                extended
                for values in settings
                for extended in (
                    [values | {dimension.key: point} for point in points] if dimension.applies(values) else [values]
                )
            ]
        return settings

    def describe_size(self) -> str:
        """How many settings there are, for people."""
        settings = self.grid()
        if settings is not None:
            return f"{len(settings)} settings"
        continuous = sum(dimension.grid() is None for dimension in self.dimensions)
        finite = math.prod(len(points) for dimension in self.dimensions if (points := dimension.grid()) is not None)
        return f"{continuous} continuous dimensions" + (f" x {finite} combinations" if finite > 1 else "")

    def to_dict(self) -> list[dict[str, Any]]:
        """As plain data, for comparing and storing."""
        return [
            {name: _plain(value) for name, value in vars(dimension).items() if value not in (None, (), {}, False)}
            for dimension in self.dimensions
        ]

    @classmethod
    def from_dict(cls, data: Sequence[Mapping[str, Any]]) -> Space:
        """What `to_dict` made."""
        return cls(dimensions=tuple(_dimension(entry) for entry in data))


def _dimension(entry: Mapping[str, Any]) -> Dimension:
    settings: dict[str, Any] = dict(entry)
    settings["choices"] = tuple(entry.get("choices", ()))
    settings["when"] = {key: tuple(values) for key, values in entry.get("when", {}).items()}
    return Dimension(**settings)


def set_dotted(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested sections; None removes it."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            data[section] = {}
        data = data[section]
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value


def _spaced(low: float, high: float, *, count: int, log: bool) -> list[float]:
    fractions = [index / (count - 1) for index in range(count)]
    values = [low * (high / low) ** part if log else low + (high - low) * part for part in fractions]
    # To twelve digits, so that 0.3 is 0.3 and meets the baseline's.
    return [float(f"{value:.12g}") for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
