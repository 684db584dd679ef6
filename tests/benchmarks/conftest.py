"""The scripts under ``benchmarks/`` import each other by their bare names, as Python does for a script's own folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("claims")


@pytest.fixture
def results_page(claims: ModuleType) -> ModuleType:
    return importlib.import_module("results_page")


@pytest.fixture
def run_all(claims: ModuleType) -> ModuleType:
    return importlib.import_module("run_all")
