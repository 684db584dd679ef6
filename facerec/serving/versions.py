"""Versions in MLflow's model registry: made, described, listed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from facerec.errors import MissingPathError, TrackingError, UsageError
from facerec.patience import limit_patience
from facerec.serving.package import Staged

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "check_alias",
    "check_name",
    "describe_version",
    "known_run",
    "list_models",
    "log_version",
    "registry",
    "show_model",
    "version_with",
]

_PREFIX = "facerec."
_MAX_TAG = 4900
"""MLflow takes 5,000 bytes."""
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,199}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,200}")
_TAKEN_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
"""What MLflow keeps for itself."""


def check_name(name: str) -> None:
    """Refuse names that an address could not hold.

    Raises:
        UsageError: the name has other characters than letters, digits, blanks, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a name in the registry; use letters, digits, dots, dashes, underscores")


def check_alias(alias: str) -> None:
    """Refuse aliases that the registry would not take: asked for one, it answers as if nothing had it.

    Raises:
        UsageError: the alias has other characters than letters, digits, dashes and underscores, or is reserved.
    """
    if not _ALIAS.fullmatch(alias):
        raise UsageError(f"'{alias}' cannot be an alias; use letters, digits, dashes and underscores")
    if _TAKEN_ALIAS.fullmatch(alias):
        raise UsageError(f"the alias '{alias}' is reserved by the registry; choose another, such as champion")


@contextmanager
def registry() -> Iterator[MlflowClient]:
    """A client of the registry; what it refuses, or that it does not answer, becomes one sentence.

    Raises:
        TrackingError: the registry does not answer, or refuses.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    logging.getLogger("alembic").setLevel(logging.WARNING)
    undo = limit_patience(retries=2)
    try:
        yield MlflowClient()
    except RequestException as error:
        raise TrackingError("the model registry does not answer; check MLFLOW_TRACKING_URI") from error
    except MlflowException as error:
        raise TrackingError(f"the model registry refuses: {_first_line(error)}") from error
    finally:
        undo()


def version_with(client: MlflowClient, name: str, alias: str | None) -> int | None:
    """The version that has an alias; None where nothing has."""
    from mlflow.exceptions import MlflowException

    if alias is None:
        return None
    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # An unknown model is a missing resource, an unknown alias an invalid parameter.
        if error.error_code in (_MISSING, "INVALID_PARAMETER_VALUE"):
            return None
        raise


def known_run(run_id: str | None) -> str | None:
    """``run_id`` where this store has that run, else None: checkpoints travel between stores."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    with registry() as client:
        try:
            client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in (_MISSING, "INVALID_PARAMETER_VALUE"):
                return None
            raise
    return run_id


def log_version(
    client: MlflowClient, name: str, *, staged: Staged, runtime: str, example: str, run_id: str | None
) -> int:
    """Make a logged model of the parts, linked to a run where one is given, and register it; returns the version."""
    from mlflow.models import Model

    from facerec.serving import flavor

    with _experiment_of(client, run_id):
        info = Model.log(
            artifact_path=None,
            name="predictor",
            flavor=flavor,
            run_id=run_id,
            registered_model_name=name,
            staged=staged,
            runtime=runtime,
            example=example,
        )
    assert info.registered_model_version is not None
    return int(info.registered_model_version)


@contextmanager
def _experiment_of(client: MlflowClient, run_id: str | None) -> Iterator[None]:
    """Let MLflow put the model where its run is; it would take the default experiment."""
    name = "MLFLOW_EXPERIMENT_ID"
    before = os.environ.get(name)
    if run_id is not None:
        os.environ[name] = client.get_run(run_id).info.experiment_id
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def describe_version(
    client: MlflowClient, name: str, version: int, *, description: str, tags: Mapping[str, str]
) -> None:
    """Give a version its model card and its tags."""
    client.update_model_version(name, str(version), description)
    for key, value in tags.items():
        clean = re.sub(r"[^A-Za-z0-9_. /-]", "_", key)
        client.set_model_version_tag(name, str(version), f"{_PREFIX}{clean}", value[:_MAX_TAG])


def list_models() -> list[dict[str, Any]]:
    """Every registered model: name, number of versions, aliases.

    Raises:
        TrackingError: see `registry`.
    """
    with registry() as client:
        return [
            {
                "name": model.name,
                "latest_version": max((int(v.version) for v in _versions(client, model.name)), default=None),
                "aliases": {alias: int(version) for alias, version in model.aliases.items()},
            }
            for model in _models(client)
        ]


def show_model(name: str) -> dict[str, Any]:
    """One registered model with its versions, newest first.

    Raises:
        MissingPathError: there is none of that name.
        TrackingError: see `registry`.
    """
    from mlflow.exceptions import MlflowException

    with registry() as client:
        try:
            model = client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
            raise MissingPathError(f"no model is registered as '{name}'; `facerec registry list` shows all") from error
        aliases = {alias: int(version) for alias, version in model.aliases.items()}
        found = sorted(_versions(client, name), key=lambda version: -int(version.version))
        return {"name": name, "aliases": aliases, "versions": [_version_row(version, aliases) for version in found]}


def _models(client: MlflowClient) -> Iterator[Any]:
    """All models; the registry hands them out in pages."""
    token: str | None = None
    while token != "":
        page = client.search_registered_models(page_token=token)
        yield from page
        token = page.token or ""


def _versions(client: MlflowClient, name: str) -> list[Any]:
    quoted = name.replace("'", "''")
    return list(client.search_model_versions(f"name = '{quoted}'"))


def _version_row(version: Any, aliases: Mapping[str, int]) -> dict[str, Any]:
    number = int(version.version)
    return {
        "version": number,
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "created_ms": version.creation_timestamp,
        "run_id": version.run_id or None,
        "tags": {key.removeprefix(_PREFIX): value for key, value in sorted(version.tags.items())},
        "model_card": version.description or "",
    }


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
