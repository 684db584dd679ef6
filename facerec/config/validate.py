"""Plain data against a dataclass of sections: every problem at once, with its line and dotted path."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

from facerec.config.yamlio import KeyPath

__all__ = ["PathProblem", "adapter_of", "copy_plain", "describe_problems", "validate"]

PathProblem = tuple[KeyPath, str]
"""Where, and a sentence."""

UnknownKey = Callable[[KeyPath], str]

T = TypeVar("T")


@functools.cache
def adapter_of(root: type[Any]) -> Any:
    """Pydantic's validator of a dataclass of sections."""
    from pydantic import ConfigDict, TypeAdapter

    # Strict: "12" is no number and 1 is no boolean. A float may be written as an integer.
    # What is validated is JSON: strict validation of Python objects would want dataclass instances and tuples.
    settings = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)
    pending = [root]
    while pending:
        section = pending.pop()
        section.__pydantic_config__ = settings  # type: ignore[attr-defined]
        pending += [
            item.default_factory
            for item in dataclasses.fields(section)
            if dataclasses.is_dataclass(item.default_factory)
        ]
    return TypeAdapter(root)


def validate(root: type[T], data: dict[str, Any], *, unknown_key: UnknownKey) -> tuple[T, list[PathProblem]]:
    """Validate plain data against a dataclass of sections.

    Where keys are wrong, they are reported and left out, so that later rules still apply. ``unknown_key`` makes the
    sentence for a key that the dataclass has not.
    """
    from pydantic import ValidationError

    problems: list[PathProblem] = []
    remaining = copy_plain(data)
    while True:
        try:
            return adapter_of(root).validate_json(json.dumps(_without_empty_sections(root, remaining))), problems
        except ValidationError as error:
            sentences: dict[KeyPath, list[str]] = {}
            kinds: dict[KeyPath, str] = {}
            for item in error.errors():
                path = _data_path(item["loc"], remaining)
                kinds.setdefault(path, item["type"])
                sentences.setdefault(path, []).append(_sentence(item))
            for path, texts in sentences.items():
                if any(other[: len(path)] == path != other for other in sentences):
                    continue  # The other branch of a union got further: its message is the useful one.
                if kinds[path] in ("unexpected_keyword_argument", "extra_forbidden"):
                    problems.append((path, unknown_key(path)))
                else:
                    problems.append((path, " or ".join(dict.fromkeys(texts)) + f", not {_show(remaining, path)}"))
                _remove(remaining, path)


def describe_problems(
    problems: list[PathProblem], *, lines: dict[KeyPath, int], override_paths: set[KeyPath], source: str
) -> str:
    """One line for each problem, in the order of the file, with the file, the line and the dotted path."""

    def line_of(path: KeyPath) -> int:
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 0) if path else 0

    def describe(path: KeyPath, sentence: str) -> str:
        dotted = ".".join(map(str, path)) or "config"
        overridden = any(path[: len(other)] == other or other[: len(path)] == path for other in override_paths)
        if overridden:
            return f"--set {dotted}: {sentence}"
        line = line_of(path)
        return f"{source}, line {line}: {dotted}: {sentence}" if line else f"{source}: {dotted}: {sentence}"

    ordered = sorted(dict.fromkeys(problems), key=lambda problem: line_of(problem[0]))
    return "\n".join(describe(path, sentence) for path, sentence in ordered)


def _data_path(loc: tuple[Any, ...], data: Any) -> KeyPath:
    """The part of pydantic's location that names a place in the data (it also names the branches of unions)."""
    path: list[str | int] = []
    for part in loc:
        inside_map = isinstance(data, dict) and part in data
        inside_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not (inside_map or inside_list):
            continue
        path.append(part)
        data = data[part]
    return tuple(path)


def _sentence(item: Any) -> str:
    message: str = item["msg"]
    replacements = {
        "Input should be": "must be",
        "a valid integer": "a whole number",
        "a valid number": "a number",
        "a valid string": "text",
        "a valid boolean": "true or false",
        "a valid tuple": "a list",
        "a valid dictionary": "a section of keys",
        "a dictionary or an instance of": "a section of keys for",
        "greater than or equal to": "at least",
        "less than or equal to": "at most",
        "greater than": "above",
        "less than": "below",
    }
    for old, new in replacements.items():
        message = message.replace(old, new)
    return "must be a section of keys" if item["type"].startswith("dataclass") else message


def _show(data: Any, path: KeyPath) -> str:
    for part in path:
        data = data[part]
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _remove(data: Any, path: KeyPath) -> None:
    if not path:
        data.clear()
        return
    for part in path[:-1]:
        if isinstance(data[part], list):
            # One bad item makes the whole list unusable.
            del data[part]
            return
        data = data[part]
    del data[path[-1]]


def copy_plain(data: Any) -> Any:
    """A copy of nested mappings and lists."""
    if isinstance(data, dict):
        return {key: copy_plain(value) for key, value in data.items()}
    return [copy_plain(value) for value in data] if isinstance(data, list) else data


def _without_empty_sections(root: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    sections = {item.name for item in dataclasses.fields(root) if dataclasses.is_dataclass(item.default_factory)}
    # A section in YAML whose keys are all commented out is null; it means its defaults.
    return {key: value for key, value in data.items() if not (value is None and key in sections)}
