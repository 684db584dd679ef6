"""What a predictor knows beside its weights: ``predictor.json``, written once and checked when it is read."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facerec.errors import CheckpointError

__all__ = [
    "FORMAT",
    "HISTOGRAM_BINS",
    "SPEC_FILE",
    "Calibration",
    "EnoughPairs",
    "PredictorSpec",
    "Threshold",
    "read_spec",
    "write_spec",
]

FORMAT = 1
SPEC_FILE = "predictor.json"
HISTOGRAM_BINS = 100
"""Bins of equal width over [-1, 1]."""

EnoughPairs = Literal["yes", "hardly", "no, only a bound"]
"""Whether the impostor pairs can show a rate, in the words of the model card."""

_PIXELS = {"colour_order": "RGB", "mean": 127.5, "scale": 1 / 127.5}
"""How pixels become what the backbone takes: (x - mean) * scale."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The decision threshold at one false accept rate, and how far it can be trusted."""

    far: float
    """Target false accept rate."""
    threshold: float
    """Pairs with a similarity from here on are accepted as the same person."""
    threshold_interval: tuple[float, float]
    """Where the threshold for that rate lies with 95 % confidence."""
    tar: float
    """True accept rate at the threshold."""
    tar_interval: tuple[float, float]
    """Its 95 % interval (Clopper-Pearson)."""
    far_seen: float
    """False accept rate that the pairs show at the threshold."""
    far_interval: tuple[float, float]
    """Its 95 % interval (Clopper-Pearson)."""
    trusted: bool
    """At least 30 false accepts are expected at the target among the impostor pairs."""
    is_bound: bool
    """Fewer than 3 are expected: the pairs cannot show this rate, only the interval is known."""

    @property
    def enough_pairs(self) -> EnoughPairs:
        """Whether the impostor pairs can show the rate."""
        return "yes" if self.trusted else "no, only a bound" if self.is_bound else "hardly"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the thresholds come from."""

    pair_set: str
    """Name of the pair set."""
    sha256: str
    """Of its file."""
    pairs: int
    genuine: int
    accuracy: float
    """10-fold accuracy."""
    accuracy_std: float
    auc: float
    eer: float
    thresholds: tuple[Threshold, ...]
    default_far: float
    """Used where a request names none."""
    genuine_histogram: tuple[int, ...]
    """Genuine pairs by similarity, in `HISTOGRAM_BINS` bins of equal width over [-1, 1]."""
    impostor_histogram: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PredictorSpec:
    """Everything that a prediction depends on, except for the weights."""

    backbone: str
    embedding_size: int
    dropout: float | None
    image_hw: tuple[int, int]
    """Height and width of the input, in pixels."""
    flip: bool
    """Whether the embedding of the mirrored picture is added, as in verification."""
    runtime: Literal["torch", "onnx"]
    calibration: Calibration | None
    """None where there was no pair set; then a decision needs a threshold in the request."""

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Those of the calibration; none without one."""
        return self.calibration.thresholds if self.calibration else ()

    def threshold_at(self, far: float) -> Threshold | None:
        """The threshold at a false accept rate, where it is known."""
        return next((entry for entry in self.thresholds if abs(entry.far - far) <= 1e-9 * entry.far), None)


def write_spec(spec: PredictorSpec, folder: Path) -> None:
    """Write ``predictor.json``."""
    content = {"format": FORMAT, "pixels": _PIXELS, **dataclasses.asdict(spec)}
    (folder / SPEC_FILE).write_text(json.dumps(content, indent=2, allow_nan=False), encoding="utf-8")


def read_spec(folder: Path) -> PredictorSpec:
    """Read ``predictor.json``.

    Raises:
        CheckpointError: it is missing, damaged, or says something that this version cannot do.
    """
    path = folder / SPEC_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, pixels = content.pop("format"), content.pop("pixels")
        if version != FORMAT or pixels != _PIXELS:
            raise CheckpointError(f"{path} has format {version} with pixels {pixels}; use the version that wrote it")
        return _from_plain(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no predictor: it has no {SPEC_FILE}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged; register the model again") from error


def _from_plain(content: dict[str, Any]) -> PredictorSpec:
    plain = content.pop("calibration")
    calibration = None
    if plain is not None:
        thresholds = tuple(Threshold(**_with_tuples(entry)) for entry in plain.pop("thresholds"))
        calibration = Calibration(thresholds=thresholds, **_with_tuples(plain))
    return PredictorSpec(calibration=calibration, **_with_tuples(content))


def _with_tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
