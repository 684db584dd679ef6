"""A session into a checkpoint, and a checkpoint into a session."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from facerec.config.load import config_to_dict
from facerec.errors import CheckpointError
from facerec.models.state_load import load_tensors
from facerec.rng import capture_rng, restore_rng, seed_everything
from facerec.training.checkpoint import SavedState, mark, prune, read_tensors, save_checkpoint, set_aside_later
from facerec.training.failures import not_written
from facerec.training.head_parts import load_head, own_rows, whole_head, whole_rows
from facerec.training.history import Evaluation
from facerec.training.optimizer_state import load_optimizer, split_optimizer
from facerec.training.resume import check_resumable, place_in_epoch
from facerec.training.session import Session

__all__ = ["leave_later_checkpoints", "restore", "save"]

LOGGER = logging.getLogger("facerec")


def save(session: Session) -> None:
    """Write a checkpoint of the present step, and remove those that are no longer kept; rank 0 writes.

    Raises:
        CheckpointError: the disk refused; the checkpoints that were there are untouched. Every process raises it.
    """
    ranks = session.world.gather_texts(json.dumps({"rng": capture_rng(), "epoch_sums": session.epoch_means.state()}))
    skipped_keys = session.skipped_keys()
    files, scalars = _tensors(session)
    problem = ""
    if session.world.is_main:
        state = _state(session, [json.loads(text) for text in ranks], scalars, skipped_keys)
        problem = _write(session, state, files)
    if problem := session.world.text_of_main(problem):
        raise CheckpointError(problem)


def restore(session: Session, checkpoint: Path, state: SavedState) -> None:
    """Put a fresh session where the checkpoint was saved.

    Raises:
        CheckpointError: the checkpoint belongs to another training, see `check_resumable`, or is damaged.
    """
    loader, parts = session.loader, session.parts
    for line in check_resumable(
        state,
        session.config,
        num_classes=loader.num_classes,
        fingerprint=loader.pack.fingerprint,
        pair_sets=_digests(session),
        world_size=session.world.size,
    ):
        session.notes.append(line)
    trained = "model" if state.config["training"].get("ema_decay") is None else "trained_model"
    _load(parts.model.backbone, checkpoint, trained)
    load_head(parts.loss, read_tensors(checkpoint, "head"), path=checkpoint / "head.safetensors")
    if parts.average is not None:
        _restore_average(session, checkpoint, is_saved=trained != "model")
    load_optimizer(
        session.step.optimizer,
        parts.named_weights(),
        tensors=own_rows(parts.loss, read_tensors(checkpoint, "optimizer")),
        scalars=state.optimizer,
        source=checkpoint,
    )
    _restore_scaler(session, state)
    session.epoch, session.global_step = state.epoch, state.global_step
    session.step_in_epoch, line = place_in_epoch(
        state, total_batch=session.total_batch, steps_per_epoch=loader.steps_per_epoch
    )
    if line:
        session.notes.append(line)
    session.evaluations = _known_evaluations(session.run_folder, state)
    session.resumed_from, session.resume_run_id = checkpoint, state.tracker_run_id
    session.earlier_skips.update(state.skipped_keys)
    _restore_ranks(session, state)


def leave_later_checkpoints(session: Session) -> None:
    """Set aside what the run has saved after the checkpoint that it goes on from; rank 0 does, and holds the run."""
    if session.resumed_from is None or not session.world.is_main:
        return
    folder, best = session.run_folder, session.judgement.best
    names = set_aside_later(folder, step=session.global_step)
    mark(folder, "last", session.resumed_from)
    if not names:
        return
    LOGGER.warning("the run goes on from an earlier checkpoint; later ones are set aside as %s", ", ".join(names))
    known = folder / f"step-{best.step:08d}" if best else None
    if known is not None and known.is_dir():
        mark(folder, "best", known)
    elif not (folder / "best").exists():
        (folder / "best").unlink(missing_ok=True)


def _state(
    session: Session, ranks: list[dict[str, Any]], scalars: dict[str, Any], skipped_keys: list[int]
) -> SavedState:
    return SavedState(
        epoch=session.epoch,
        step_in_epoch=session.step_in_epoch,
        global_step=session.global_step,
        num_classes=session.loader.num_classes,
        config=config_to_dict(session.config),
        fingerprint=session.loader.pack.fingerprint,
        rng=ranks[0]["rng"],
        epoch_sums=ranks[0]["epoch_sums"],
        scaler=session.step.scaler.state_dict(),
        optimizer=scalars,
        evaluations=[evaluation.to_dict() for evaluation in session.evaluations],
        tracker_run_id=session.tracker.run_id,
        world_size=session.world.size,
        ranks=ranks[1:],
        pair_sets=_digests(session),
        skipped_keys=skipped_keys,
    )


def _digests(session: Session) -> dict[str, str]:
    return {pairs.name: pairs.sha256 for pairs in session.pair_sets}


def _tensors(session: Session) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    parts = session.parts
    tensors, scalars = split_optimizer(session.step.optimizer, parts.named_weights())
    files = {
        "model": parts.verified_backbone.state_dict(),
        "head": whole_head(parts.loss),
        "optimizer": whole_rows(parts.loss, tensors),
    }
    if parts.average is not None:
        files["trained_model"] = parts.model.backbone.state_dict()
    return files, scalars


def _write(session: Session, state: SavedState, files: dict[str, dict[str, Tensor]]) -> str:
    """What went wrong, nothing if all is well."""
    try:
        save_checkpoint(session.run_folder, state, files=files)
    except (OSError, SafetensorError) as error:
        return not_written(f"the checkpoint of step {session.global_step}", session.run_folder, error)
    for failure in prune(session.run_folder, keep_last_n=session.config.checkpoint.keep_last_n):
        LOGGER.warning("an old checkpoint could not be removed (%s); mind the room on the disk", failure)
    return ""


def _load(module: nn.Module, checkpoint: Path, name: str) -> None:
    path = checkpoint / f"{name}.safetensors"
    load_tensors(module, read_tensors(checkpoint, name), path=path, what="the configured model")


def _restore_scaler(session: Session, state: SavedState) -> None:
    scaler = session.step.scaler
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    elif scaler.is_enabled():
        session.notes.append(
            f"the checkpoint was made without a loss scaler; its scale starts at {scaler.get_scale():g} for float16"
        )


def _restore_average(session: Session, checkpoint: Path, *, is_saved: bool) -> None:
    average = session.parts.average
    assert average is not None
    if is_saved:
        _load(average.module, checkpoint, "model")
    else:
        average.start_from_module()
        session.notes.append(f"{checkpoint} holds no average of the weights; it starts from the weights of this step")


def _restore_ranks(session: Session, state: SavedState) -> None:
    world = session.world
    saved: list[dict[str, Any]] = [{"rng": state.rng, "epoch_sums": state.epoch_sums}, *state.ranks]
    if state.world_size == world.size:
        restore_rng(saved[world.rank]["rng"])
        session.epoch_means.restore(saved[world.rank]["epoch_sums"])
        return
    # The sums of all processes go to the first. What the processes draw cannot go on, so it starts from the step.
    seed_everything(session.config.seed + state.global_step * world.size + world.rank)
    if world.is_main:
        sums = zip(*(rank["epoch_sums"] for rank in saved), strict=True)
        session.epoch_means.restore([sum(values) for values in sums])


def _known_evaluations(run_folder: Path, state: SavedState) -> list[Evaluation]:
    # history.json is newer than the checkpoint by the evaluation that follows it; later epochs will be done again.
    path = run_folder / "history.json"
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        found = [Evaluation(**entry) for entry in entries]
    except FileNotFoundError:
        found = [Evaluation(**entry) for entry in state.evaluations]
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged; remove it to go on with the checkpoint's own history") from error
    return [evaluation for evaluation in found if evaluation.epoch <= state.epoch]
