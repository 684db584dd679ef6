"""Whether a checkpoint may go on under the present configuration (promise C3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facerec.config.load import config_to_dict, flatten
from facerec.config.schema import Config
from facerec.errors import CheckpointError
from facerec.training.checkpoint import SavedState

__all__ = ["check_resumable", "config_changes", "place_in_epoch"]

# These decide what the tensors mean or in which order the pictures come; with others a resumed run would be another.
_FIXED = (
    "seed",
    "model.backbone",
    "model.embedding_size",
    "model.dropout",
    "model.drop_path",
    "model.mask_ratio",
    "head.",
    "data.batch_size",
    "data.img_size",
    "data.augment.",
    "data.shuffle_block",
    "data.weights",
    "data.sampler.",
    "training.optimizer",
)
# How the same loss is computed.
_MEANS = ("head.loss", "head.chunk_mib")
# These change the course of the training from here on, or what its evaluations mean; a user may want it, and is told.
_COURSE = ("training.", "eval.", "data.on_bad_record", "deterministic")
_FREE = (
    "training.resume",
    "training.early_stop",
    "training.patience",
    "training.data_parallel",
    "training.compile",
    "eval.test_batch_size",
    "eval.before_training",
)


def config_changes(saved: dict[str, Any], present: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with the saved and the present value."""
    old, new = flatten(saved), flatten(present)
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def check_resumable(
    state: SavedState,
    config: Config,
    *,
    num_classes: int,
    fingerprint: str,
    pair_sets: Mapping[str, str] | None = None,
    world_size: int = 1,
) -> list[str]:
    """Refuse a resume that would be another training; return a line for each change that is let through.

    Another number of processes is let through, and with it another batch of each where the joint batch stays.
    ``pair_sets`` has the digests of the verification sets, by their names.

    Raises:
        CheckpointError: the data or a setting that the saved state depends on has changed; names each.
    """
    changes = config_changes(state.config, config_to_dict(config))
    changes.pop("head.num_classes", None)
    total_before, total_now = _total_batch(state), config.data.batch_size * world_size
    if total_before == total_now:
        changes.pop("data.batch_size", None)
    fixed = [key for key in changes if key.startswith(_FIXED) and key not in _MEANS]
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
    told = [key for key in sorted(changes) if key.startswith((*_COURSE, *_MEANS)) and key not in _FREE]
    lines = [f"resuming with another {key}: {changes[key][0]!r} -> {changes[key][1]!r}" for key in told]
    lines += [
        f"resuming with other pairs in '{name}' (digest {state.pair_sets[name][:12]} -> {digest[:12]}); results on it "
        "from before do not compare"
        for name, digest in sorted((pair_sets or {}).items())
        if state.pair_sets.get(name, digest) != digest
    ]
    if state.world_size != world_size:
        lines.append(
            f"resuming with another number of processes: {state.world_size} -> {world_size}, "
            f"the joint batch {total_before} -> {total_now}; weights, class centres and optimiser are complete"
            + ("" if total_before == total_now else "; mind training.lr")
        )
    return lines


def place_in_epoch(state: SavedState, *, total_batch: int, steps_per_epoch: int) -> tuple[int, str]:
    """The step of the epoch at which a joint batch of ``total_batch`` goes on, and what a user should hear of it.

    Raises:
        CheckpointError: the epoch has become shorter than what is done of it.
    """
    before = _total_batch(state)
    if before == total_batch:
        if state.step_in_epoch >= steps_per_epoch:
            raise CheckpointError(
                f"the checkpoint was made after step {state.step_in_epoch} of an epoch, which is shorter now"
            )
        return state.step_in_epoch, ""
    done = state.step_in_epoch * before
    step = min(done // total_batch, steps_per_epoch - 1)
    again = done - step * total_batch
    return step, f"{again} pictures of this epoch are seen again, as {done} are no whole batches" if again else ""


def _total_batch(state: SavedState) -> int:
    return int(state.config["data"]["batch_size"]) * state.world_size
