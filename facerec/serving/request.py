"""What a request may say, and the sentence for what it may not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from facerec.errors import UsageError, near_match
from facerec.serving.spec import PredictorSpec, Threshold

__all__ = ["PARAMETERS", "Request", "parse_request"]

PARAMETERS = ("mode", "far", "threshold", "flip", "on_error", "top")
_MODES = ("similarity", "embed", "search")
_MAX_TOP = 100


@dataclass(frozen=True, kw_only=True)
class Request:
    """The parameters of one request, checked."""

    mode: Literal["similarity", "embed", "search"]
    threshold: float | None
    """Similarity from which on two pictures show the same person; None where nothing tells it."""
    far: float | None
    """The false accept rate that the threshold stands for; None for a threshold of the request's own."""
    far_at_most: float | None
    """What the true rate at the threshold does not exceed, with 95 % confidence: more where the pairs were few."""
    flip: bool
    fail: bool
    """Whether a bad row fails the whole request."""
    top: int
    """Candidates of a search."""


def parse_request(params: Mapping[str, Any], spec: PredictorSpec) -> Request:
    """Check the parameters against each other and against what the model knows.

    Raises:
        UsageError: one sentence on what is wrong.
    """
    if unknown := sorted(set(params) - set(PARAMETERS)):
        name = str(unknown[0])[:40]
        raise UsageError(f"unknown parameter '{name}'{near_match(name, PARAMETERS)}; known: {', '.join(PARAMETERS)}")
    given = {name: value for name, value in params.items() if value is not None}
    mode = _choice(given, "mode", _MODES)
    on_error = _choice(given, "on_error", ("row", "fail"))
    flip = given.get("flip", spec.flip)
    if not isinstance(flip, bool):
        raise UsageError("flip must be true or false")
    top = given.get("top", 5)
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= _MAX_TOP:
        raise UsageError(f"top must be a whole number from 1 to {_MAX_TOP}")
    threshold, entry = _decision(given, spec) if mode == "similarity" else _refuse_decision(given, mode)
    return Request(
        mode=mode,
        threshold=threshold,
        far=None if entry is None else entry.far,
        far_at_most=None if entry is None else entry.far_interval[1],
        flip=flip,
        fail=on_error == "fail",
        top=top,
    )


def _choice(given: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Any:
    value = given.get(name, known[0])
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}")
    return value


def _refuse_decision(given: Mapping[str, Any], mode: str) -> tuple[float | None, None]:
    if "far" in given or (mode == "embed" and "threshold" in given):
        raise UsageError(f"far and threshold decide on two pictures; mode '{mode}' has no use for them")
    return (_number(given, "threshold", low=-1.0, high=1.0) if "threshold" in given else None), None


def _decision(given: Mapping[str, Any], spec: PredictorSpec) -> tuple[float | None, Threshold | None]:
    """The threshold, and what is known of its false accept rate."""
    if "far" in given and "threshold" in given:
        raise UsageError("give far or threshold, not both")
    if "threshold" in given:
        return _number(given, "threshold", low=-1.0, high=1.0), None
    if spec.calibration is None:
        if "far" in given:
            raise UsageError("this model was registered without a pair set, so it knows no far; give threshold")
        return None, None
    far = _number(given, "far", low=0.0, high=1.0) if "far" in given else spec.calibration.default_far
    entry = spec.threshold_at(far)
    if entry is None:
        known = ", ".join(f"{item.far:g}" for item in spec.calibration.thresholds)
        raise UsageError(f"this model knows no threshold at far {far:g}, only at {known}; or give threshold")
    return entry.threshold, entry


def _number(given: Mapping[str, Any], name: str, *, low: float, high: float) -> float:
    value = given[name]
    is_nan = isinstance(value, float) and math.isnan(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or is_nan:
        raise UsageError(f"{name} must be a number")
    if not low <= value <= high:
        raise UsageError(f"{name} must lie between {low:g} and {high:g}")
    return float(value)
