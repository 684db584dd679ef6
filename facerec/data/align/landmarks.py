"""Five landmarks per face from a table: TSV or JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError

__all__ = ["Landmarks", "read_landmarks"]

Landmarks = dict[str, list[NDArray[np.float64]]]
"""By the path of a picture, relative to the folder: (5, 2) for each of its faces, x and y in pixels."""

_NUM_VALUES = 10
_FORM = "a path and ten numbers: x and y of left eye, right eye, nose, left and right corner of the mouth"


def read_landmarks(path: Path) -> Landmarks:
    """Read a table of landmarks.

    A ``.json`` holds an object, ``{"person/picture.jpg": [[x, y], …five]}``, or a list of faces in place of one. Any
    other file holds lines of a path and ten numbers, separated by tabs; several lines with one path are several faces.
    A first line without numbers is a heading.

    Raises:
        MissingPathError: the file does not exist or cannot be read.
        DataError: a face has another form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise MissingPathError(f"landmarks {path} cannot be read ({error.strerror}); check the path") from error
    found = _from_json(text, path) if path.suffix.lower() == ".json" else _from_lines(text, path)
    if not found:
        raise DataError(f"landmarks {path} name no picture")
    return found


def _from_lines(text: str, path: Path) -> Landmarks:
    found: Landmarks = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip() for field in line.split("\t")]
        if fields == [""]:
            continue
        values = [_number(field) for field in fields[1:]]
        if number == 1 and len(values) == _NUM_VALUES and all(value is None for value in values):
            continue
        face = _face(values)
        if face is None:
            raise DataError(f"landmarks {path}, line {number}: '{line[:60]}' is not {_FORM}, separated by tabs")
        found.setdefault(fields[0], []).append(face)
    return found


def _from_json(text: str, path: Path) -> Landmarks:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"landmarks {path} are no JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"landmarks {path} must be an object that gives every picture its five points")
    found: Landmarks = {}
    for name, value in content.items():
        single = _json_face(value)
        faces = [single] if single is not None else [_json_face(item) for item in value] if _is_list(value) else [None]
        known = [face for face in faces if face is not None]
        if len(known) != len(faces):
            raise DataError(f"landmarks {path}: '{name}' does not have five points [x, y], or a list of such faces")
        found[name] = known
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _json_face(value: Any) -> NDArray[np.float64] | None:
    if not (_is_list(value) and len(value) == 5 and all(_is_list(point) and len(point) == 2 for point in value)):
        return None
    return _face([number if _is_number(number) else None for point in value for number in point])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _face(values: list[float | None]) -> NDArray[np.float64] | None:
    numbers = [value for value in values if value is not None]
    if len(values) != _NUM_VALUES or len(numbers) != _NUM_VALUES:
        return None
    return np.array(numbers, dtype=np.float64).reshape(5, 2)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
