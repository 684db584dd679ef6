"""Configurations and studies by path or by name, from any folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facerec.config import recipes
from facerec.config.load import load_config
from facerec.config.recipes import Kind, about, find_file, shipped
from facerec.errors import MissingPathError
from facerec.tuning.plan import load_study

ROOT = Path(__file__).resolve().parents[2]
KINDS: tuple[Kind, ...] = ("configs", "studies")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_is_found_by_name_and_by_path(kind: Kind) -> None:
    files = sorted((ROOT / kind).glob("*.yaml"))
    assert files
    for file in files:
        assert find_file(file.stem, kind=kind) == find_file(f"{kind}/{file.name}", kind=kind) == file
        assert find_file(file, kind=kind) == file


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_says_what_it_is_for(kind: Kind) -> None:
    assert all(about(path).endswith(".") for path in shipped(kind).values())


def test_a_name_means_a_configuration_or_a_study_by_where_it_is_used() -> None:
    assert load_config("demo").logging.experiment == "facerec-demo"
    assert load_study("demo").study.base == "configs/demo.yaml"


def test_a_file_of_the_user_counts_more_than_a_shipped_one(elsewhere: Path) -> None:
    (elsewhere / "configs").mkdir()
    for name in ("demo", "configs/demo.yaml"):
        (elsewhere / name).write_text("seed: 7\n")
        assert load_config(name).seed == 7


def test_a_folder_of_the_same_name_does_not_hide_a_shipped_file(elsewhere: Path) -> None:
    (elsewhere / "demo").mkdir()
    assert find_file("demo", kind="configs") == ROOT / "configs" / "demo.yaml"


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("configs/dmeo.yaml", "did you mean 'configs/demo.yaml'"),
        ("mine.yml", "did you mean 'mine.yaml'"),
    ],
)
def test_an_unknown_file_is_answered_with_a_near_match_and_the_names(given: str, near: str, elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").touch()
    with pytest.raises(MissingPathError) as caught:
        find_file(given, kind="configs")
    message = str(caught.value)
    assert message.startswith(f"config file {given} does not exist")
    assert near in message
    assert all(name in message for name in shipped("configs"))


def test_a_suffix_or_a_folder_is_no_bare_name() -> None:
    for given in ("demo.yml", "./x/demo", "/demo"):
        with pytest.raises(MissingPathError):
            find_file(given, kind="configs")


def test_an_installed_package_finds_the_files_inside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "facerec"
    shutil.copytree(ROOT / "configs", package / "_bundled" / "configs")
    monkeypatch.setattr(recipes, "_PACKAGE", package)
    assert find_file("demo", kind="configs") == package / "_bundled" / "configs" / "demo.yaml"
    assert find_file("configs/demo.yaml", kind="configs") == package / "_bundled" / "configs" / "demo.yaml"
