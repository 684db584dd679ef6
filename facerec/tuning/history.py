"""The evaluations that a run has written down."""

from __future__ import annotations

import json
from pathlib import Path

from facerec.training.history import Evaluation

__all__ = ["history_before", "read_history"]


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
