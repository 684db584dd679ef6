"""The evaluations that a run has written down."""

from __future__ import annotations

import json
from pathlib import Path

from facerec.training.history import Evaluation

__all__ = ["read_history"]


def read_history(run_folder: Path) -> list[Evaluation]:
    """The evaluations of a run; none, where it has no history."""
    try:
        entries = json.loads((run_folder / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [Evaluation(**entry) for entry in entries]
