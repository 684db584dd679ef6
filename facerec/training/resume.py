"""Whether a checkpoint may go on under the present configuration (promise C3)."""

from __future__ import annotations

from typing import Any

from facerec.config.load import config_to_dict, flatten
from facerec.config.schema import Config
from facerec.errors import CheckpointError
from facerec.training.checkpoint import SavedState

__all__ = ["check_resumable", "config_changes"]

# These decide what the tensors mean or in which order the pictures come; with others a resumed run would be another.
_FIXED = (
    "seed",
    "model.backbone",
    "model.embedding_size",
    "model.dropout",
    "head.",
    "data.batch_size",
    "data.img_size",
    "data.augment.",
    "data.shuffle_block",
    "training.optimizer",
)
# These change the course of the training from here on, which a user may want; they are told.
_COURSE = ("training.", "data.on_bad_record", "deterministic")
_FREE = ("training.resume", "training.early_stop", "training.patience", "training.data_parallel")


def config_changes(saved: dict[str, Any], present: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with the saved and the present value."""
    old, new = flatten(saved), flatten(present)
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def check_resumable(state: SavedState, config: Config, *, num_classes: int, fingerprint: str) -> list[str]:
    """Refuse a resume that would be another training; return a line for each change that is let through.

    Raises:
        CheckpointError: the data or a setting that the saved state depends on has changed; names each.
    """
    changes = config_changes(state.config, config_to_dict(config))
    changes.pop("head.num_classes", None)
    fixed = [key for key in changes if key.startswith(_FIXED)]
    refused = [f"{key}: {changes[key][0]!r} -> {changes[key][1]!r}" for key in sorted(fixed)]
    if num_classes != state.num_classes:
        refused.append(f"identities in the data: {state.num_classes} -> {num_classes}")
    if fingerprint != state.fingerprint:
        refused.append(f"training data (digest {state.fingerprint[:12]} -> {fingerprint[:12]})")
    if refused:
        raise CheckpointError(
            "cannot resume, because these have changed since the checkpoint was written: "
            + "; ".join(refused)
            + "; set them back, or start a new run without --resume"
        )
    told = [key for key in sorted(changes) if key.startswith(_COURSE) and key not in _FREE]
    return [f"resuming with another {key}: {changes[key][0]!r} -> {changes[key][1]!r}" for key in told]
