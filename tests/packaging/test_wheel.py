"""The wheel holds the program, its recipes and its licence, and nothing else; it runs outside the checkout."""

from __future__ import annotations

import email
import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import facerec

ROOT = Path(__file__).resolve().parents[2]
_LARGEST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed: the extra `dev` brings it")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tracked(*patterns: str) -> set[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", *patterns]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        pytest.skip("this is no git checkout, so what belongs into the wheel is not known")
    return set(done.stdout.split())


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    expected = {name for name in tracked("facerec") if (ROOT / name).exists()}
    assert any(name.endswith(".html") for name in expected)
    assert "facerec/py.typed" in expected
    assert expected - names_in(wheel) == set()


def test_the_wheel_holds_the_shipped_configurations_and_studies_as_they_are(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for kind in ("configs", "studies"):
            bundled = [name for name in archive.namelist() if name.startswith(f"facerec/_bundled/{kind}/")]
            assert {Path(name).name for name in bundled} >= {Path(name).name for name in tracked(kind)}
            for name in bundled:
                assert archive.read(name) == (ROOT / kind / Path(name).name).read_bytes()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    about = f"facerec-{facerec.__version__}.dist-info/"
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names} == {"facerec", about.rstrip("/")}
    kinds = {Path(name).suffix for name in names if not name.startswith(about)}
    assert kinds <= {".py", ".typed", ".html", ".js", ".css", ".yaml"}
    assert wheel.stat().st_size < _LARGEST_BYTES


def test_the_metadata_names_the_command_the_licence_and_the_extras(wheel: Path) -> None:
    about = f"facerec-{facerec.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{about}/METADATA"))
        assert b"facerec = facerec.cli.main:main" in archive.read(f"{about}/entry_points.txt")
        assert archive.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


def test_the_unpacked_wheel_finds_the_demo_by_name_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = (
        "import facerec; print(facerec.__file__); from facerec.cli.main import main; main(['config', 'show', 'demo'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, _, shown = done.stdout.partition("\n")
    assert where == str(site / "facerec" / "__init__.py")
    assert yaml.safe_load(shown)["logging"]["experiment"] == "facerec-demo"
    assert list(empty.iterdir()) == []


def test_one_version_stands_in_every_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == facerec.__version__ == citation["version"]
    heading = f"## [{facerec.__version__}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
