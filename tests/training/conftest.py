"""A training that takes a second, and a tracker that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.training.tracker import ModelDescription, RunDescription, RunStatus
from tests.packs import write_pack, write_pair_set


class RecordingTracker:
    """Keeps what it is told; ``on_metrics`` is called with the step of training curves."""

    def __init__(self, on_metrics: Callable[[int], None] | None = None) -> None:
        self.run: RunDescription | None = None
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.files: list[tuple[str, str]] = []
        self.images: list[tuple[str, int]] = []
        self.models: list[ModelDescription] = []
        self.tags: dict[str, str] = {}
        self.status: RunStatus | None = None
        self.reason = ""
        self._on_metrics = on_metrics

    @property
    def run_id(self) -> str | None:
        return "run-1"

    def start(self, run: RunDescription) -> None:
        self.run = run

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.metrics.append((step, dict(metrics)))
        if self._on_metrics and "train/loss" in metrics:
            self._on_metrics(step)

    def log_file(self, path: Path, *, folder: str = "") -> None:
        assert path.exists()
        self.files.append((path.name, folder))

    def log_image(self, path: Path, *, key: str, step: int) -> None:
        assert path.exists()
        self.images.append((key, step))

    def log_model(self, model: ModelDescription) -> None:
        self.models.append(model)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def finish(self, status: RunStatus, *, reason: str = "") -> None:
        self.status, self.reason = status, reason

    def curve(self, key: str) -> dict[int, float]:
        return {step: values[key] for step, values in self.metrics if key in values}


@pytest.fixture(scope="session")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pack(tmp_path_factory.mktemp("pack"), identities=8, pictures=8)
    write_pair_set(folder / "people.bin")
    return folder


@pytest.fixture
def make_config(pack_folder: Path, tmp_path: Path) -> Callable[..., Config]:
    """Build a tiny configuration; arguments are dotted keys with ``__`` for the dot."""

    def make(**changes: Any) -> Config:
        settings = {
            "model.backbone": "iresnet_mini",
            "model.dropout": 0.2,
            "model.embedding_size": 32,
            "head.scale": 16.0,
            "head.margin": 0.2,
            "data.root": str(pack_folder),
            "data.batch_size": 16,
            "data.num_workers": 0,
            "data.img_size": 32,
            "training.epochs": 3,
            "training.lr": 0.05,
            "training.amp": False,
            "checkpoint.save_dir": str(tmp_path / "runs"),
            "logging.log_dir": str(tmp_path / "logs"),
            "logging.print_freq": 1,
            "eval.bin_file": "people.bin",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        nested: dict[str, Any] = {}
        for key, value in settings.items():
            section, _, name = key.rpartition(".")
            node = nested
            for part in section.split(".") if section else []:
                node = node.setdefault(part, {})
            node[name] = value
        return config_from_dict(nested)

    return make
