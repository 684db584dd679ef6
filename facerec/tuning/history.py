"""What a run has written down: its evaluations, and the run of the tracking store that it is recorded in."""

from __future__ import annotations

import json
from pathlib import Path

from facerec.training.history import Evaluation
from facerec.training.run_folder import newest_checkpoint

__all__ = ["history_before", "read_history", "recorded_run"]


def read_history(run_folder: Path) -> list[Evaluation]:
    """The evaluations of a run; none, where it has no history."""
    try:
        entries = json.loads((run_folder / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [Evaluation(**entry) for entry in entries]


def history_before(checkpoint: Path) -> list[Evaluation]:
    """The evaluations of a run up to one of its checkpoints; later ones are done again."""
    step = int(checkpoint.name.removeprefix("step-"))
    return [evaluation for evaluation in read_history(checkpoint.parent) if evaluation.step <= step]


def recorded_run(run_folder: Path) -> str | None:
    """The identity of the run that a training is recorded in, as its newest checkpoint has it; None without either."""
    checkpoint = newest_checkpoint(run_folder)
    if checkpoint is None:
        return None
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        # The training that still runs has a newer one and has removed this.
        return None
    run_id: str | None = state["tracker_run_id"]
    return run_id
