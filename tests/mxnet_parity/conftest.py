"""The real mxnet, where it is installed: `make test-mxnet` builds an environment that has it."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from facerec.data.mxnet_reader import import_mxnet


@pytest.fixture(scope="session")
def mxnet() -> Any:
    """mxnet 1.9.1; tests skip where it is not installed, and fail where it is but cannot be imported."""
    if importlib.util.find_spec("mxnet") is None:
        pytest.skip("mxnet is not installed here: `make test-mxnet` runs these tests in an environment that has it")
    with warnings.catch_warnings():
        # mxnet looks up every name of numpy, expired ones too; it is retired, so that nobody will mend it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_mxnet()


@pytest.fixture(params=["small", "veclabel", "multipart", "lfw"])
def real_pack(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> Path:
    """A copy of a pack that the real mxnet wrote: `FacePack` keeps an index cache beside its files."""
    name = request.param
    source = shared_data / name if name == "lfw" else shared_data / "mxnet" / name
    return Path(shutil.copytree(source, tmp_path / name))
