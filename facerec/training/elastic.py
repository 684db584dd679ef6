"""What a launcher that starts failed processes again needs to know: which run is theirs."""

from __future__ import annotations

import os
from pathlib import Path

from facerec.fsio import atomic_write_text
from facerec.training.run_folder import newest_checkpoint

__all__ = ["claim_run", "forget_run", "run_to_continue"]


def claim_run(run_folder: Path, *, save_dir: Path) -> None:
    """Note under ``save_dir`` that this launcher's run is ``run_folder``; does nothing without a launcher.

    A run that is resumed may lie elsewhere than new ones would.
    """
    if path := _note(save_dir):
        is_inside = run_folder.parent.resolve() == save_dir.resolve()
        # By its name the other machines find it, too, which may see the folder under another path.
        atomic_write_text(path, run_folder.name if is_inside else str(run_folder.resolve()))


def run_to_continue(save_dir: Path) -> Path | None:
    """The newest complete checkpoint of this launcher's run; null if it has none yet."""
    path = _note(save_dir)
    if path is None or not path.is_file():
        return None
    return newest_checkpoint(save_dir / path.read_text(encoding="utf-8"))


def forget_run(save_dir: Path) -> None:
    """Remove the note once the training is over."""
    if path := _note(save_dir):
        path.unlink(missing_ok=True)


def _note(save_dir: Path) -> Path | None:
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    # Without a rendezvous of its own every launcher calls its job "none"; its process number tells it apart.
    known = name if name not in ("", "none") else f"launcher-{os.getppid()}"
    return save_dir / f".elastic-{''.join(letter if letter.isalnum() or letter in '-_' else '_' for letter in known)}"
