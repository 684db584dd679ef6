"""Which of the environments of `mlflow run` work here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from facerec.tracking.health.check import Check

__all__ = ["check_environments"]

_COMMAND = "mlflow run . -e train -P config=configs/demo.yaml"


def check_environments() -> list[Check]:
    """One check for each environment manager; all together fail only where none works."""
    checks = [_check_local(), _check_conda(), _check_uv(), _check_virtualenv()]
    if shutil.which("mlflow") is None:
        advice = f"activate the environment: . {_activate_script()}"
        checks.append(Check(name="mlflow run", level="fail", detail="mlflow is not on PATH", advice=advice))
    elif all(check.level != "ok" for check in checks):
        advice = f"activate the environment for --env-manager local: . {_activate_script()}"
        checks.append(Check(name="mlflow run", level="fail", detail="no environment manager works", advice=advice))
    return checks


def _check_local() -> Check:
    found = shutil.which("python")
    if found is not None and Path(found).absolute().parent.resolve() == Path(sys.executable).parent.resolve():
        return _works("local")
    detail = f"python on PATH is {found or 'missing'}, not {sys.executable}"
    return Check(name="mlflow run, local", level="warn", detail=detail, advice=f"activate: . {_activate_script()}")


def _check_conda() -> Check:
    home = os.environ.get("MLFLOW_CONDA_HOME")
    executable = str(Path(home, "bin", "conda")) if home else os.environ.get("CONDA_EXE", "conda")
    if shutil.which(executable) is not None:
        return _works("conda")
    return _missing("conda", f"no executable {executable}", "install Miniforge, or use another manager")


def _check_uv() -> Check:
    if shutil.which("uv") is not None:
        return _works("uv")
    return _missing("uv", "uv is not on PATH", "pip install uv, and activate the environment that it is in")


def _check_virtualenv() -> Check:
    if shutil.which("pyenv") is not None:
        return _works("virtualenv", note="; pyenv compiles Python 3.11 if it is not there")
    return _missing("virtualenv", "pyenv is not on PATH", "install pyenv, or use another manager")


def _works(manager: str, *, note: str = "") -> Check:
    # Conda is what the project file asks for, so it needs no option.
    command = _COMMAND if manager == "conda" else f"{_COMMAND} --env-manager {manager}"
    return Check(name=f"mlflow run, {manager}", level="ok", detail=command + note, facts={"command": command})


def _missing(manager: str, detail: str, advice: str) -> Check:
    return Check(name=f"mlflow run, {manager}", level="off", detail=detail, advice=advice)


def _activate_script() -> Path:
    return Path(sys.prefix, "bin", "activate")
