"""From a YAML file and overrides to a validated `Config`; every problem is reported at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from facerec.config.checks import check
from facerec.config.recipes import find_file
from facerec.config.schema import Config
from facerec.config.validate import PathProblem, adapter_of, copy_plain, describe_problems, validate
from facerec.config.yamlio import KeyPath, parse_scalar, read_yaml
from facerec.errors import ConfigError, near_match

__all__ = [
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "dump_yaml",
    "find_config",
    "find_problems",
    "flatten",
    "json_schema",
    "known_keys",
    "load_config",
    "split_overrides",
    "unknown_config_key",
]

_OVERRIDE_START = re.compile(r"\s+(?=[A-Za-z_]\w*(?:\.\w+)*=)")
_QUOTED_VALUE = re.compile(r"""(?:^|\s)[A-Za-z_]\w*(?:\.\w+)*=('(?:[^']|'')*'|"(?:[^"\\]|\\.)*")(?=\s|$)""")


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
    """The file of a configuration: a path, or the name of one that comes with the program, such as ``demo``.

    Raises:
        MissingPathError: there is no such file.
    """
    return find_file(path, kind="configs")


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
    problems: list[PathProblem] = []
    data, override_paths = apply_overrides(data, overrides, problems)
    config, found = find_problems(data)
    problems += found
    if problems:
        raise ConfigError(describe_problems(problems, lines=lines or {}, override_paths=override_paths, source=source))
    return config


def find_problems(data: dict[str, Any]) -> tuple[Config, list[PathProblem]]:
    """The configuration of plain data, and everything that is wrong with it; wrong keys count as absent."""
    config, problems = validate(Config, data, unknown_key=unknown_config_key)
    problems += [(tuple(path.split(".")), sentence) for path, sentence in check(config)]
    return config, problems


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str], problems: list[tuple[KeyPath, str]]
) -> tuple[dict[str, Any], set[KeyPath]]:
    """Lay ``KEY=VALUE`` texts over plain data; returns the new data and the key paths that were set."""
    merged = {key: copy_plain(value) for key, value in data.items()}
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
    """Take texts such as ``"a.b=1 c.d=[2, 3]"`` apart into single ``KEY=VALUE`` texts; empty texts vanish.

    A value in quotes stays whole, whatever it holds: ``a.b='x c.d=2'``.
    """
    for text in map(str.strip, overrides):
        quoted = [match.span(1) for match in _QUOTED_VALUE.finditer(text)]
        begin = 0
        for gap in _OVERRIDE_START.finditer(text):
            if not any(first < gap.start() < end for first, end in quoted):
                yield text[begin : gap.start()]
                begin = gap.end()
        if text[begin:]:
            yield text[begin:]


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
    schema: dict[str, Any] = adapter_of(Config).json_schema()
    return schema


def unknown_config_key(path: KeyPath) -> str:
    """What to say of a key that no configuration has."""
    dotted = ".".join(map(str, path))
    keys = known_keys()
    sections = sorted({key.rsplit(".", 1)[0] for key in keys if "." in key})
    siblings = [key for key in [*keys, *sections] if key.rpartition(".")[0] == dotted.rpartition(".")[0]]
    hint = near_match(dotted, siblings)
    if not hint:
        same_name = [key for key in keys if key.rsplit(".", 1)[-1] == path[-1]]
        hint = f" (did you mean '{same_name[0]}'?)" if same_name else near_match(dotted, keys)
    return f"unknown key{hint}; `facerec config schema` lists all keys"


def _to_plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _to_plain(value) for key, value in data.items()}
    return [_to_plain(value) for value in data] if isinstance(data, (list, tuple)) else data
