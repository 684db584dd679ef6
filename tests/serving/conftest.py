"""A checkpoint of a small model, and a registry that holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from facerec.serving.register import Registration, register
from tests.packs import write_pair_set
from tests.serving.models import write_checkpoint


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered predictor, and the checkpoint that it was made of."""

    tracking_uri: str
    checkpoint: Path
    pairs: Path
    registration: Registration
    folder: Path
    """The model folder in the store."""


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair_set(tmp_path_factory.mktemp("pairs") / "people.bin", pairs=200)


@pytest.fixture(scope="session")
def checkpoint(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "step-00000001"
    return write_checkpoint(folder, bins=[pairs.name], root=pairs.parent)


@pytest.fixture(scope="session")
def registered(checkpoint: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """Registered in a store of its own; `MLFLOW_TRACKING_URI` is as before afterwards."""
    store = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{store / 'm.db'}"
    before, here = os.environ.get("MLFLOW_TRACKING_URI"), Path.cwd()
    os.environ["MLFLOW_TRACKING_URI"] = uri
    # A local store puts its files below the working folder.
    os.chdir(store)
    try:
        registration = register(str(checkpoint), name="faces", device="cpu")
    finally:
        os.chdir(here)
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
    (folder,) = (path.parent for path in store.rglob("MLmodel"))
    return Registered(tracking_uri=uri, checkpoint=checkpoint, pairs=pairs, registration=registration, folder=folder)
