"""A registered model is complete, names no machine, holds no pickle, and is refused once a byte of it has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facerec.errors import CheckpointError
from facerec.serving.folder import check_model_folder
from facerec.serving.locate import locate_model
from tests.serving.conftest import Registered
from tests.serving.models import face, text_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

_LOAD = """
import importlib.util, json, sys
sys.path = [path for path in sys.path if path != sys.argv[2]]
spec = importlib.util.find_spec("facerec")
assert spec is None or spec.origin is None, "the project can still be imported"
import mlflow.pyfunc
import pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict(pd.DataFrame(json.load(sys.stdin)))
import facerec
print(json.dumps({"answers": answers, "code": facerec.__file__, "modules": sorted(sys.modules)}))
"""


@pytest.fixture
def copy(registered: Registered, tmp_path: Path) -> Path:
    """A copy of the model folder; the result is the folder of the weights."""
    shutil.copytree(registered.folder, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "model" / "artifacts" / "predictor"


def test_the_folder_holds_plain_files_and_no_pickle(registered: Registered) -> None:
    names = {path.suffix for path in registered.folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)}
    assert names <= {"", ".json", ".yaml", ".txt", ".py", ".md", ".safetensors"}
    requirements = (registered.folder / "requirements.txt").read_text().split()
    packages = {line.partition("==")[0] for line in requirements}
    assert packages >= {"torch", "mlflow", "simplejpeg"}
    assert not packages & {"optuna", "scikit-learn", "matplotlib", "torchvision"}
    assert all("==" in line and "+" not in line for line in requirements)


def test_no_path_of_this_machine_is_in_the_model(registered: Registered) -> None:
    for path in registered.folder.rglob("*"):
        if path.suffix in {".json", ".md", ".txt", ".yaml", ""} and path.is_file():
            text = path.read_text()
            for place in (registered.checkpoint, registered.pairs.parent, Path.cwd(), Path.home()):
                assert str(place) not in text, path
            assert "/tmp" not in text, path
    flavor = yaml.safe_load((registered.folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavor["model_code_path"] == "predictor_model.py"
    assert "python_model" not in flavor


def test_it_serves_where_the_project_is_not_installed(registered: Registered, tmp_path: Path) -> None:
    rows = [{"image_a": text_of(face(1)), "image_b": text_of(face(2))}]
    # -P and another working folder: nothing but the model's own code can be found.
    project = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    output = subprocess.run(
        [sys.executable, "-P", "-c", _LOAD, str(registered.folder), project],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=280,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    result = json.loads(output.stdout.splitlines()[-1])
    assert result["code"].startswith(str(registered.folder))
    assert result["answers"][0]["error"] is None
    loaded = {name for name in result["modules"] if name.startswith("facerec.")}
    assert not {name for name in loaded if name.split(".")[1] in ("training", "tracking", "tuning", "cli")}
    assert "optuna" not in result["modules"]


def test_an_untouched_copy_is_accepted(copy: Path) -> None:
    check_model_folder(copy)


def test_a_changed_byte_of_the_weights_is_named(copy: Path) -> None:
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has changed"):
        check_model_folder(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "predictor.json", "manifest.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        check_model_folder(copy)


def test_missing_or_changed_code_is_named(copy: Path) -> None:
    script = copy.parents[1] / "code" / "facerec" / "serving" / "service.py"
    content = script.read_text()
    script.write_text(content + "\n")
    with pytest.raises(CheckpointError, match=r"service\.py has changed"):
        check_model_folder(copy)
    script.unlink()
    with pytest.raises(CheckpointError, match=r"service\.py is missing"):
        check_model_folder(copy)


@pytest.mark.parametrize(
    "place",
    [
        "artifacts/predictor/python_model.pkl",
        "python_model.pkl",
        "code/x.pkl",
        "__pycache__/python_model.pkl",
        "artifacts/__pycache__/python_model.pkl",
        "code/__pycache__/evil.pkl",
        "code/facerec/__pycache__/registry.cpython-311.pkl",
        "code/facerec/__pycache__/evil.cpython-311.pyc",
        "code/facerec/evil.cpython-311.pyc",
        "code/facerec/registry.pyc",
    ],
)
def test_an_added_pickle_is_named(copy: Path, place: str) -> None:
    (copy.parents[1] / place).parent.mkdir(exist_ok=True)
    (copy.parents[1] / place).write_bytes(b"\x80\x04N.")
    with pytest.raises(CheckpointError, match=Path(place).name.replace(".", r"\.")):
        check_model_folder(copy)


def test_pythons_caches_of_the_models_own_code_are_accepted(copy: Path) -> None:
    root = copy.parents[1]
    for place in (
        "__pycache__/predictor_model.cpython-311.pyc",
        "code/facerec/__pycache__/registry.cpython-313.opt-1.pyc",
        "code/facerec/__pycache__/registry.cpython-311.pyc.139872345",  # While another process writes it.
    ):
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_bytes(b"")
    check_model_folder(copy)


def test_a_linked_folder_is_named(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (copy.parents[1] / "code" / "evil").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="holds code/evil"):
        check_model_folder(copy)


def test_mlflow_refuses_to_load_a_changed_model(copy: Path) -> None:
    import mlflow

    (copy / "added.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"added\.pkl"):
        mlflow.pyfunc.load_model(str(copy.parents[1]))


def test_readers_of_checkpoints_take_a_registered_predictor(registered: Registered) -> None:
    from facerec.models.weights import load_backbone

    located = locate_model(str(registered.folder))
    assert located == registered.folder / "artifacts" / "predictor"
    loaded = load_backbone(located)
    assert (loaded.config.model.backbone, loaded.config.image_hw, loaded.num_classes) == ("iresnet_mini", (32, 32), 8)


def test_the_card_states_rates_intervals_and_limits(registered: Registered) -> None:
    card = (registered.folder / "artifacts" / "predictor" / "model_card.md").read_text()
    for part in ("| 0.001 |", "200 pairs", "## Limits", "## Licence", "not stated", "biometric"):
        assert part in card
