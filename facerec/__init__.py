"""Training, verification, tuning and serving of face-recognition models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facerec.serving.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    # torch loads when the predictor is first used, not when the package is imported.
    if name == "Predictor":
        from facerec.serving.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'facerec' has no attribute '{name}'")
