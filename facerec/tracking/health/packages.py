"""The interpreter and the installed packages, against what the project asks for."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

from facerec import __version__
from facerec.tracking.health.check import Check

__all__ = ["check_packages", "check_python"]

_PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def check_python() -> Check:
    """Whether this Python is one that the project supports."""
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    supported: str = _project()["requires-python"]
    facts = {"python": version, "executable": sys.executable, "facerec": __version__}
    if version in SpecifierSet(supported, prereleases=True):
        return Check(name="python", level="ok", detail=f"{version} ({sys.executable})", facts=facts)
    return Check(
        name="python",
        level="fail",
        detail=f"{version} is not supported; facerec needs {supported}",
        advice="make the environment again with a supported Python: make env PYTHON=python3.11",
        facts=facts,
    )


def check_packages() -> Check:
    """Whether every package is installed in a version that the project accepts."""
    from packaging.requirements import Requirement

    versions: dict[str, str | None] = {}
    problems: list[str] = []
    for requirement in map(Requirement, _project()["dependencies"]):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = versions[requirement.name] = _installed(requirement.name)
        if version is None:
            problems.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if problems:
        return Check(
            name="packages",
            level="fail",
            detail="; ".join(problems),
            advice="install the project again: make env, or pip install -e .",
            facts={"versions": versions},
        )
    shown = ("torch", "torchvision", "mlflow", "optuna", "numpy", "simplejpeg", "safetensors")
    detail = ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
    return Check(name="packages", level="ok", detail=f"facerec {__version__}, {detail}", facts={"versions": versions})


def _project() -> dict[str, Any]:
    # The file counts more: in an environment that `mlflow run` has built, the project itself is not installed.
    if _PYPROJECT.is_file():
        project: dict[str, Any] = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
        return project
    metadata = importlib.metadata.metadata("facerec")
    return {
        "requires-python": metadata["Requires-Python"],
        "dependencies": importlib.metadata.requires("facerec") or [],
    }


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
