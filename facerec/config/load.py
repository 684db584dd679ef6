"""From a YAML file and overrides to a validated `Config`; every problem is reported at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from facerec.config.checks import check
from facerec.config.schema import Config
from facerec.config.yamlio import KeyPath, parse_scalar, read_yaml
from facerec.errors import ConfigError, MissingPathError, near_match

__all__ = [
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "dump_yaml",
    "find_config",
    "flatten",
    "json_schema",
    "known_keys",
    "load_config",
    "split_overrides",
]

_PROJECT_ROOT = Path(__file__).resolve().parents[2]
_OVERRIDE_START = re.compile(r"\s+(?=[A-Za-z_]\w*(?:\.\w+)*=)")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration.

    ``overrides`` are texts such as ``training.lr=0.05``; one text may hold several, separated by blanks.

    Raises:
        MissingPathError: the file does not exist.
        ConfigError: anything in it, or in an override, cannot be used; the message has one line per problem.
    """
    found = find_config(path)
    data, lines = read_yaml(found)
    return config_from_dict(data, overrides=overrides, lines=lines, source=str(found))


def find_config(path: str | Path) -> Path:
    """Resolve a configuration's path against the working folder first, then against the project's own folder."""
    given = Path(path)
    candidates = [given] if given.is_absolute() else [given, _PROJECT_ROOT / given]
    bundled = Path(__file__).resolve().parents[1] / "_bundled" / given
    for candidate in [*candidates, bundled]:
        if candidate.is_file():
            return candidate
    raise MissingPathError(f"config file {given} does not exist; check the path, or list the configs/ folder")


def config_from_dict(
    data: dict[str, Any],
    *,
    overrides: Sequence[str] = (),
    lines: dict[KeyPath, int] | None = None,
    source: str = "config",
) -> Config:
    """Validate plain data; ``lines`` maps key paths to lines of ``source`` for the messages.

    Raises:
        ConfigError: see `load_config`.
    """
    problems: list[tuple[KeyPath, str]] = []
    data, override_paths = apply_overrides(data, overrides, problems)
    config, found = _validate(data)
    problems += found
    problems += [(tuple(path.split(".")), sentence) for path, sentence in check(config)]
    if problems:
        raise ConfigError(_describe(problems, lines or {}, override_paths, source))
    return config


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str], problems: list[tuple[KeyPath, str]]
) -> tuple[dict[str, Any], set[KeyPath]]:
    """Lay ``KEY=VALUE`` texts over plain data; returns the new data and the key paths that were set."""
    merged = {key: _copy_plain(value) for key, value in data.items()}
    paths: set[KeyPath] = set()
    for text in split_overrides(overrides):
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ConfigError(f"--set {text}: write KEY=VALUE, such as training.lr=0.05")
        path: KeyPath = tuple(key.split("."))
        node = merged
        for part in path[:-1]:
            child = node.get(str(part))
            if not isinstance(child, dict):
                child = node[str(part)] = {}
            node = child
        try:
            node[str(path[-1])] = parse_scalar(value)
        except ConfigError as error:
            problems.append((path, str(error)))
        paths.add(path)
    return merged, paths


def split_overrides(overrides: Sequence[str]) -> Iterator[str]:
    """Take texts such as ``"a.b=1 c.d=[2, 3]"`` apart into single ``KEY=VALUE`` texts; empty texts vanish."""
    for text in overrides:
        for part in _OVERRIDE_START.split(text.strip()):
            if part:
                yield part


def config_to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain data (tuples as lists), as YAML or JSON can hold it."""
    plain: dict[str, Any] = _to_plain(dataclasses.asdict(config))
    return plain


def dump_yaml(config: Config) -> str:
    """The complete configuration, defaults included, as YAML text that `load_config` reads back."""
    text: str = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    return text


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted keys; empty sections vanish."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def known_keys() -> list[str]:
    """Every dotted key of a configuration."""
    return sorted(flatten(config_to_dict(Config())) | {"logging.tags": None})


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration, with the meaning of every key."""
    schema: dict[str, Any] = _adapter().json_schema()
    return schema


@functools.cache
def _adapter() -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # Strict: "12" is no number and 1 is no boolean. A float may be written as an integer.
    # What is validated is JSON: strict validation of Python objects would want dataclass instances and tuples.
    settings = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)
    pending = [Config]
    while pending:
        section = pending.pop()
        section.__pydantic_config__ = settings  # type: ignore[attr-defined]
        pending += [
            item.default_factory
            for item in dataclasses.fields(section)
            if dataclasses.is_dataclass(item.default_factory)
        ]
    return TypeAdapter(Config)


def _validate(data: dict[str, Any]) -> tuple[Config, list[tuple[KeyPath, str]]]:
    """Validate; where keys are wrong, report them and go on without them, so that later rules still apply."""
    from pydantic import ValidationError

    problems: list[tuple[KeyPath, str]] = []
    remaining = _copy_plain(data)
    while True:
        try:
            return _adapter().validate_json(json.dumps(_without_empty_sections(remaining))), problems
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
                    problems.append((path, _unknown_key(path)))
                else:
                    problems.append((path, " or ".join(dict.fromkeys(texts)) + f", not {_show(remaining, path)}"))
                _remove(remaining, path)


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


def _unknown_key(path: KeyPath) -> str:
    dotted = ".".join(map(str, path))
    keys = known_keys()
    sections = sorted({key.rsplit(".", 1)[0] for key in keys if "." in key})
    siblings = [key for key in [*keys, *sections] if key.rpartition(".")[0] == dotted.rpartition(".")[0]]
    hint = near_match(dotted, siblings)
    if not hint:
        same_name = [key for key in keys if key.rsplit(".", 1)[-1] == path[-1]]
        hint = f" (did you mean '{same_name[0]}'?)" if same_name else near_match(dotted, keys)
    return f"unknown key{hint}; `facerec config schema` lists all keys"


def _describe(
    problems: list[tuple[KeyPath, str]], lines: dict[KeyPath, int], override_paths: set[KeyPath], source: str
) -> str:
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


def _copy_plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy_plain(value) for key, value in data.items()}
    return [_copy_plain(value) for value in data] if isinstance(data, list) else data


def _without_empty_sections(data: dict[str, Any]) -> dict[str, Any]:
    # A section in YAML whose keys are all commented out is null; it means its defaults.
    return {key: value for key, value in data.items() if not (value is None and key in _SECTIONS)}


def _to_plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _to_plain(value) for key, value in data.items()}
    return [_to_plain(value) for value in data] if isinstance(data, (list, tuple)) else data


_SECTIONS = {item.name for item in dataclasses.fields(Config) if dataclasses.is_dataclass(item.default_factory)}
