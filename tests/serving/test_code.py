"""A predictor carries the code that serving imports, and nothing of training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from facerec.registry import BACKBONES
from facerec.serving.code import copy_code, needed_modules, packages_of
from facerec.serving.flavor import requirements
from facerec.serving.threads import limit_threads, threads_for


def test_training_tracking_and_tuning_stay_behind() -> None:
    rooms = {name.split(".")[1] for name in needed_modules("facerec.models.backbones.iresnet") if "." in name}
    assert rooms >= {"serving", "models", "data", "config", "errors", "fsio", "registry"}
    assert not rooms & {"training", "tracking", "tuning", "cli"}


@pytest.mark.parametrize("name", ["iresnet_mini", "resnet18", "mobilefacenet"])
def test_the_copy_can_be_imported_alone(tmp_path: Path, name: str) -> None:
    module = BACKBONES.entry(name).target.partition(":")[0]
    copy_code(tmp_path, module)
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]); import facerec; "
        "assert facerec.__file__.startswith(sys.argv[1]); "
        "[importlib.import_module(name) for name in sys.argv[2:]]"
    )
    wanted = [name for name in needed_modules(module) if name != "facerec.serving.pyfunc_model"]
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path), *wanted], check=True, timeout=200, cwd=tmp_path)


def test_packages_of_a_backbone_become_requirements() -> None:
    assert "torchvision" in packages_of("facerec.models.backbones.resnet")
    assert "torchvision" not in packages_of("facerec.models.backbones.iresnet")
    lines = requirements(runtime="torch", with_index=False, of_backbone=["torch", "torchvision"])
    assert sum(line.startswith("torch==") for line in lines) == 1
    assert any(line.startswith("torchvision==") for line in lines)
    assert all("==" in line and "+" not in line for line in lines)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [threads_for(cores=8, workers=w) for w in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import torch

    assert limit_threads() == torch.get_num_threads()
