"""The two READMEs agree with the program."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from facerec.cli.main import cli
from facerec.cli.zoo import _backbone_row, _backbones
from facerec.config.load import config_to_dict, flatten, known_keys
from facerec.config.schema import Config
from facerec.registry import HEADS

_ROOT = Path(__file__).resolve().parents[1]
_NAMES = ("README.md", "README_zh.md")
_ROW = re.compile(r"^\| `([^`]+)` \| (.+) \|$", re.MULTILINE)
_KEY_ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| `([^`]*)` \| (\S.*) \|$", re.MULTILINE)
_COMMAND = re.compile(r"(?<!from )(?<![\w./-])facerec +([a-z]+(?:-[a-z]+)*)(?: +([a-z]+))?(?![\w./-])")

both = pytest.mark.parametrize("name", _NAMES)


def read(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def key_table(text: str) -> dict[str, object]:
    rows = [(key, default) for key, default, _ in _KEY_ROW.findall(text)]
    keys = [key for key, _ in rows]
    assert len(keys) == len(set(keys)), "a key has two rows"
    return {key: yaml.safe_load(default) for key, default in rows}


def code(text: str) -> str:
    """What stands in backquotes or in fenced blocks."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", outside)])


def command_named(first: str, second: str) -> click.Command | None:
    context = click.Context(cli)
    command = cli.get_command(context, first)
    if isinstance(command, click.Group) and second:
        return command.get_command(context, second)
    return command


@both
def test_the_key_table_names_exactly_the_keys_of_a_configuration(name: str) -> None:
    assert sorted(key_table(read(name))) == known_keys()


@both
def test_the_key_table_gives_the_defaults_of_the_schema(name: str) -> None:
    defaults = flatten(config_to_dict(Config())) | {"logging.tags": Config().logging.tags}
    assert key_table(read(name)) == defaults


@both
def test_every_command_that_is_mentioned_exists(name: str) -> None:
    mentioned = set(_COMMAND.findall(code(read(name))))
    assert {first for first, _ in mentioned} >= {"train", "evaluate", "predict", "summary", "data", "config", "zoo"}
    missing = [pair for pair in sorted(mentioned) if command_named(*pair) is None]
    assert not missing


@both
def test_every_command_of_the_program_is_mentioned(name: str) -> None:
    mentioned = {first for first, _ in _COMMAND.findall(code(read(name)))}
    assert mentioned >= set(cli.list_commands(click.Context(cli)))


@both
def test_every_configuration_that_is_mentioned_exists_and_every_one_is_mentioned(name: str) -> None:
    mentioned = set(re.findall(r"configs/[\w.-]+\.yaml", read(name)))
    assert mentioned == {f"configs/{path.name}" for path in (_ROOT / "configs").glob("*.yaml")}


@both
def test_the_backbone_table_says_what_the_zoo_says(name: str) -> None:
    rows = dict(_ROW.findall(read(name)))
    expected = {row["name"]: " | ".join(_backbone_row(row)[1:3]) for row in _backbones()}
    assert {backbone: rows.get(backbone) for backbone in expected} == expected


@both
def test_the_head_table_gives_the_registered_options(name: str) -> None:
    rows = dict(_ROW.findall(read(name)))
    for entry in HEADS:
        options: dict[str, object] = {}
        for text in re.findall(r"`([^`]+)`", rows.get(entry.name, "")):
            options |= yaml.safe_load(text)
        assert options == entry.options


def test_the_search_for_commands_finds_commands_and_no_paths() -> None:
    commands = "facerec zoo; python -m facerec data demo x; facerec nonsense --x"
    others = "facerec/cli; facerec-spool; from facerec import Predictor; facerec.registry"
    assert _COMMAND.findall(others) == []
    assert _COMMAND.findall(commands) == [("zoo", ""), ("data", "demo"), ("nonsense", "")]
    assert command_named("nonsense", "") is None
    assert command_named("data", "nonsense") is None


def test_conda_installs_what_the_project_and_its_demo_need() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    dependencies = yaml.safe_load(read("conda.yaml"))["dependencies"]
    (listed,) = (item["pip"] for item in dependencies if isinstance(item, dict))
    assert listed == [*project["dependencies"], *project["optional-dependencies"]["demo"]]
