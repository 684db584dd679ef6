"""What a run records of where it ran: versions, machine, code."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from facerec import __version__
from facerec.models.device import describe_device

__all__ = ["describe_environment", "git_state", "make_deterministic"]

_PACKAGES = ("torch", "torchvision", "numpy", "mlflow", "optuna", "simplejpeg", "safetensors")
_PROJECT = Path(__file__).resolve().parents[2]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Flat facts under ``env.``: versions, device, host kind, git commit."""
    facts: dict[str, Any] = {
        "env.facerec": __version__,
        "env.python": platform.python_version(),
        "env.platform": platform.platform(),
        "env.device": describe_device(device),
    }
    for package in _PACKAGES:
        try:
            facts[f"env.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[f"env.{package}"] = "not installed"
    if device.type == "cuda":
        facts["env.cuda"] = torch.version.cuda
    return facts | git_state()


def git_state() -> dict[str, Any]:
    """Commit of the project's code and whether files were changed since; without what git does not tell."""
    if shutil.which("git") is None or not (_PROJECT / ".git").exists():
        return {}
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"env.git_commit": commit} | ({} if changes is None else {"env.git_dirty": bool(changes)})


def _git(*arguments: str) -> str | None:
    """What git answers; None where it does not, as on a disk that is slow, or in a checkout of somebody else."""
    try:
        result = subprocess.run(
            ["git", "-C", str(_PROJECT), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def make_deterministic(*, enabled: bool) -> None:
    """Let torch use only algorithms that give the same bits again, or give it its freedom back."""
    if enabled:
        # Without it torch refuses every matrix product on CUDA; cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.deterministic = enabled
    torch.backends.cudnn.benchmark = not enabled
