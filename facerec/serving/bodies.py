"""What a request's body may be, seen before anything is made of it."""

from __future__ import annotations

import json
import re
from typing import Any

from facerec.errors import UsageError
from facerec.serving.images import LIMITS, Limits
from facerec.serving.request import PARAMETERS

__all__ = ["read_json", "read_object", "read_table"]

_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_KEYS = {*_FORMATS, "params"}
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_TEXT = re.compile(rb'"[^"]*+"')
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_TOO_MANY = "the body holds too many values; at most {} rows are taken"


def read_object(data: bytes | bytearray, *, limits: Limits = LIMITS) -> dict[str, Any]:
    """Parse a JSON object; a bytearray is emptied before, so that there is no third copy of its texts.

    Raises:
        UsageError: it is none, is not in UTF-8, holds too many values, or is nested too deeply.
    """
    _refuse_many_values(data, limits=limits, is_table=False)
    _check_brackets(data, limits)
    try:
        content = json.loads(_decoded(data, "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no valid JSON text in UTF-8") from error
    if not isinstance(content, dict):
        raise UsageError("the body must be a JSON object")
    return content


def read_table(data: bytes | bytearray, *, limits: Limits = LIMITS) -> str:
    """The text of a CSV; a bytearray is emptied.

    Raises:
        UsageError: it is not in UTF-8, or holds too many values.
    """
    _refuse_many_values(data, limits=limits, is_table=True)
    try:
        return _decoded(data, "utf-8")
    except ValueError as error:
        raise UsageError("the body is no text in UTF-8") from error


def read_json(data: bytes | bytearray, *, limits: Limits = LIMITS) -> dict[str, Any]:
    """Parse a body of MLflow's scoring server and check what stands on its highest level.

    Raises:
        UsageError: it is no usable object, see `read_object`, or has keys that mean nothing.
    """
    content = read_object(data, limits=limits)
    if unknown := sorted(set(content) - _KEYS):
        raise UsageError(f"the body has an unknown key '{unknown[0][:40]}'; known: {', '.join((*_FORMATS, 'params'))}")
    if len(set(content) & set(_FORMATS)) != 1:
        raise UsageError(f"the body must hold exactly one of {', '.join(_FORMATS)}")
    params = {} if content.get("params") is None else content["params"]
    if not isinstance(params, dict):
        raise UsageError("params must be an object")
    if unknown := sorted(set(params) - set(PARAMETERS)):
        raise UsageError(f"unknown parameter '{unknown[0][:40]}'; known: {', '.join(PARAMETERS)}")
    return content


def _refuse_many_values(data: bytes | bytearray, *, limits: Limits, is_table: bool) -> None:
    """Every value but the first stands behind a comma or, in a table, on a new line; base64 holds no comma."""
    lines = data.count(b"\n") + data.count(b"\r") if is_table else 0
    if data.count(b",") > limits.values or lines > limits.lines:
        raise UsageError(_TOO_MANY.format(limits.rows))


def _decoded(data: bytes | bytearray, encoding: str) -> str:
    text = data.decode(encoding)
    if isinstance(data, bytearray):
        data.clear()
    return text


def _check_brackets(data: bytes | bytearray, limits: Limits) -> None:
    """Refuse what is nested too deeply, counting brackets outside of texts."""
    if data.count(b"[") + data.count(b"{") <= limits.json_depth:
        return
    if b"\\" in data:
        # Escaped quotes go; a pair of backslashes is one of its own, so that what follows it is not escaped.
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = _TEXT.sub(b"", data.translate(None, delete=_NO_STRUCTURE))
    if len(brackets) > 4 * limits.values:
        raise UsageError(_TOO_MANY.format(limits.rows))
    depth = 0
    for byte in brackets:
        depth += _STEP.get(byte, 0)
        if depth > limits.json_depth:
            raise UsageError(f"the body is nested more than {limits.json_depth} levels deep")
