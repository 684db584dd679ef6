"""YAML read as plain data, with the line of every key.

Only mappings, sequences and scalars of the core schema are built, so a document can name no code; aliases are
refused, so it cannot grow; and ``1e-3`` is a number here, as in YAML 1.2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from facerec.errors import ConfigError, MissingPathError

__all__ = ["KeyPath", "parse_scalar", "parse_yaml", "read_yaml"]

KeyPath = tuple[str | int, ...]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 20
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_ALLOWED_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


class _Loader(yaml.SafeLoader):
    """SafeLoader whose floats follow YAML 1.2 and whose dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Read a YAML file whose top level is a mapping; return its data and the line of each key path.

    Raises:
        MissingPathError: the file is not there or cannot be read.
        ConfigError: it is not YAML, or holds what a configuration may not hold.
    """
    if not path.is_file():
        raise MissingPathError(f"config file {path} does not exist; check the path, or see `facerec config list`")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingPathError(f"config file {path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path} has {len(content)} bytes; a configuration has at most {_MAX_BYTES}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Parse YAML text; see `read_yaml`. ``source`` names it in messages."""
    loader = _Loader(text)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # Checked on the events: composing a document that is nested thousands of times takes minutes.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ConfigError(f"{source}, line {_line(event)}: nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"{source}, line {_line(event)}: aliases (*{event.anchor}) are not allowed; write the value out"
                )
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        data = {} if node is None else _build(loader, node, (), lines, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: the top level must be a mapping of sections such as 'model:' and 'data:'")
    return data, lines


def parse_scalar(text: str) -> Any:
    """Interpret the value of an override such as ``0.1``, ``true``, ``[8, 14]`` or ``lfw.bin``.

    Raises:
        ConfigError: the text is not a YAML value.
    """
    data, _ = parse_yaml(f"value: {text}" if text.strip() else "value: ''", source=f"value '{text}'")
    return data["value"]


def _build(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str) -> Any:
    line = _line(node)
    lines.setdefault(path, line)
    if node.tag not in _ALLOWED_TAGS:
        raise ConfigError(f"{source}, line {line}: the tag '{node.tag}' is not allowed; use plain values")
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(loader, node, path, lines, source)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, i), lines, source) for i, item in enumerate(node.value)]
    if node.tag.endswith(":float"):
        return float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    try:
        return loader.construct_object(node)
    except ValueError as error:
        raise ConfigError(f"{source}, line {line}: '{node.value}' is not a value: {error}") from error


def _build_mapping(
    loader: _Loader, node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int], source: str
) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
            raise ConfigError(f"{source}, line {line}: keys must be plain words")
        if key in mapping:
            raise ConfigError(f"{source}, line {line}: '{'.'.join(map(str, (*path, key)))}' is set twice")
        lines[(*path, key)] = line
        mapping[key] = _build(loader, value_node, (*path, key), lines, source)
    return mapping


def _line(item: yaml.Node | yaml.Event) -> int:
    return item.start_mark.line + 1 if item.start_mark else 0
