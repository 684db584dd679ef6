"""How long MLflow's HTTP client waits for a server that does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["limit_patience"]


def limit_patience(*, retries: int, timeout_s: int = 20) -> Callable[[], None]:
    """Make MLflow's HTTP client give up soon, except where the user has set a value; returns what undoes it.

    MLflow's own defaults let one call to a dead server take a quarter of an hour.
    """
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s)}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)

    def undo() -> None:
        for name, value in added.items():
            if os.environ.get(name) == value:
                del os.environ[name]

    return undo
