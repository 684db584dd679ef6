"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two processes of many threads each on two cores are slower than of one, and tests compare bits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files (mxnet packs, LFW, embeddings) beside the checkout; tests skip where it is absent."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"the real files are not here ({_SHARED_DATA} does not exist)")
    return _SHARED_DATA
