"""`facerec gallery`: a folder to a gallery, a picture to a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from facerec.cli.gallery import gallery
from facerec.errors import UsageError
from tests.serving.models import face, write_checkpoint


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(gallery, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("gallery") / "model")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    for person in range(4):
        (folder / f"person {person}.png").write_bytes(face(5000 + 3 * person))
    return folder


def test_a_gallery_is_built_and_searched(checkpoint: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "known.safetensors"
    built = invoke("build", people, out, "--model", checkpoint, "--fpir", 0.25, "--json")
    values = json.loads(built.stdout)
    assert (values["people"], values["pictures"], values["fpir"]) == (4, 4, 0.25)
    found = invoke("search", people / "person 2.png", out, "--model", checkpoint, "--top", 2, "--json")
    answer = json.loads(found.stdout)
    assert answer["matches"][0]["name"] == "person 2"
    assert len(answer["matches"]) == 2
    assert answer["matches"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert answer["matches"][0]["match"] is True
    assert answer["threshold"] == values["threshold"]


def test_people_get_lines(checkpoint: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "known.safetensors"
    built = invoke("build", people, out, "--model", checkpoint).stdout
    assert "4 people, 4 pictures" in built
    assert "at FPIR 0.01" in built
    first = invoke("search", people / "person 1.png", out, "--model", checkpoint).stdout.splitlines()[0]
    assert first.endswith("person 1")
    assert first.startswith("1.0000  match")


def test_a_stranger_is_told_that_nobody_reaches_the_threshold(checkpoint: Path, people: Path, tmp_path: Path) -> None:
    out, stranger = tmp_path / "known.safetensors", tmp_path / "stranger.png"
    stranger.write_bytes(face(77))
    invoke("build", people, out, "--model", checkpoint)
    known = invoke("search", people / "person 1.png", out, "--model", checkpoint).stdout.splitlines()[-1]
    unknown = invoke("search", stranger, out, "--model", checkpoint).stdout.splitlines()[-1]
    assert known.endswith("at FPIR 0.01")
    assert unknown.startswith(known)
    assert "nobody" in unknown


def test_another_model_is_refused(checkpoint: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "known.safetensors"
    invoke("build", people, out, "--model", checkpoint)
    other = write_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match="another model"):
        invoke("search", people / "person 1.png", out, "--model", other)
