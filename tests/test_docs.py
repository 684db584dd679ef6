"""The pages agree with each other, with the files and with the program, so that they cannot rot."""

from __future__ import annotations

import ast
import importlib
import itertools
import re

import click
import pytest
import yaml

from facerec.cli.main import cli
from facerec.config.load import flatten, known_keys
from facerec.config.validate import validate
from facerec.tuning.schema import StudyConfig
from tests.pages import (
    ROOT,
    Block,
    CommandLine,
    anchors,
    arguments_of,
    blocks,
    broken_link,
    command_lines,
    inline_code,
    is_synopsis,
    links,
    options_of,
    pages,
    read_page,
)

_SECTIONS = {key.split(".")[0] for key in known_keys()}
_IN_TREE = re.compile(r"^(?:facerec|tests|benchmarks|configs|studies|docs|docker)/[\w./-]*\w/?$")
every_page = pytest.mark.parametrize("page", pages())


def find_command(arguments: list[str]) -> tuple[click.Command | None, str, list[str]]:
    """The command that the first words name, its name, and what is left for it."""
    command: click.Command | None = cli
    name, rest = "facerec", arguments
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, *rest = rest
        command = command.get_command(click.Context(command), name)
    return command, name, rest


def fault_of(line: CommandLine) -> str | None:
    """Why the program would not take a command line; null if it would."""
    words = line.text.split()
    command, name, _ = find_command(list(itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, words)))
    if command is None:
        return f"{line.text}: there is no command {name}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if unknown := set(options_of(line.text)) - known - {"--help", "-h", "--version"}:
        return f"{line.text}: {name} has no {', '.join(sorted(unknown))}"
    if not line.is_block or is_synopsis(line.text):
        return None
    command, name, rest = find_command(arguments_of(line.text))
    assert command is not None
    try:
        command.make_context(name, rest)
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return f"{line.text}: {error.format_message()}"
    return None


def unknown_keys(block: Block) -> list[str]:
    """Keys of a piece of a configuration or of a study that there are not."""
    data = yaml.safe_load(block.text)
    if not isinstance(data, dict):
        return []
    if set(data) & {"space", "objective"}:
        _, problems = validate(StudyConfig, data, unknown_key=lambda path: "unknown")
        keys = [".".join(map(str, problem[0])) for problem in problems]
        return keys + [key for key in data.get("space", {}) if key not in known_keys()]
    if not set(data) <= _SECTIONS:
        return []
    return [key for key in flatten(data) if key not in known_keys() and not key.startswith("logging.tags.")]


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert not [link for link in links(read_page(page)) if broken_link(page, link)]


@every_page
def test_every_command_and_option_of_a_page_is_one_of_the_program(page: str) -> None:
    faults = [fault_of(line) for line in command_lines(page, read_page(page))]
    assert not [fault for fault in faults if fault]


@every_page
def test_every_key_of_a_piece_of_configuration_exists(page: str) -> None:
    assert not [key for one in blocks(page, read_page(page)) if one.language == "yaml" for key in unknown_keys(one)]


@every_page
def test_every_path_into_the_project_exists(page: str) -> None:
    text = read_page(page)
    words = [word for code in [*inline_code(text), *(one.text for one in blocks(page, text))] for word in code.split()]
    paths = {word.split("::")[0] for word in words if _IN_TREE.match(word.split("::")[0])}
    # Pages on adding something say where it is made; tests/test_adding.py makes it.
    made = set(re.findall(r"^Make `([^`]+)`", text, re.MULTILINE))
    assert not [path for path in sorted(paths - made) if not (ROOT / path).exists()]


@every_page
def test_python_of_a_page_imports_what_is_there(page: str) -> None:
    for block in blocks(page, read_page(page)):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facerec"):
                module = importlib.import_module(node.module or "")
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@every_page
def test_every_call_of_mlflow_run_names_an_entry_point_and_its_parameters(page: str) -> None:
    entries = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    for call in re.findall(r"mlflow run \. [^\n`#]*", read_page(page)):
        entry = re.search(r" -e (\S+)", call)
        known = entries[entry[1] if entry else "main"]["parameters"]
        assert set(re.findall(r" -P (\w+)=", call)) <= set(known), call


@every_page
def test_every_target_of_make_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = read_page(page)
    code = "\n".join([*inline_code(text), *(one.text for one in blocks(page, text))])
    assert set(re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", code, re.MULTILINE)) <= targets


@every_page
def test_every_option_of_a_benchmark_is_one_of_its_script(page: str) -> None:
    text = read_page(page)
    code = "\n".join([*inline_code(text), *(one.text for one in blocks(page, text))])
    for call in re.findall(r"benchmarks/\w+\.py[^\n`]*", code):
        script = ROOT / call.split()[0]
        known = script.read_text(encoding="utf-8") + (ROOT / "benchmarks/claims.py").read_text(encoding="utf-8")
        assert not [option for option in options_of(call) if f'"{option}"' not in known], call


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    waiting = ["README.md", "README_zh.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in links(read_page(page)):
            target = ((ROOT / page).parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_relative_to(ROOT) and target.is_file():
                name = str(target.relative_to(ROOT))
                waiting += [name] if name not in seen else []
    assert not set(pages()) - seen


def test_both_readmes_have_the_same_commands_links_and_headings() -> None:
    english, chinese = read_page("README.md"), read_page("README_zh.md")

    def commands(text: str) -> list[list[str]]:
        lines = [line for one in blocks("", text) for line in one.text.splitlines() if one.language != "python"]
        return [line.split("#")[0].split() for line in lines]

    assert commands(english) == commands(chinese)
    assert set(links(english)) - {"README_zh.md"} == set(links(chinese)) - {"README.md"}
    assert [len(mark) for mark in re.findall(r"^(#+) ", english, re.MULTILINE)] == [
        len(mark) for mark in re.findall(r"^(#+) ", chinese, re.MULTILINE)
    ]


def test_the_readme_stays_short() -> None:
    assert len(read_page("README.md").splitlines()) < 400


# The checks above find what they are for.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("train --config a.yaml --sett x=1", "has no --sett"),
        ("trian --config a.yaml", "no command trian"),
        ("data pakc a b", "no command pakc"),
        ("gallery build people", "Missing argument"),
        ("export --model m --format onyx out", "'onyx' is not one of"),
        ("train --nproc many --config a.yaml", "not a valid integer"),
    ],
)
def test_a_mistake_in_a_command_is_found(text: str, fault: str) -> None:
    found = fault_of(CommandLine("page", text, True))
    assert found is not None
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "train --config a.yaml --resume   # goes on",
        "tune --study s.yaml --workers 3 &",
        "tune show demo",
        "data verify PATH [--fast]",
        "evaluate --help",
    ],
)
def test_a_good_command_is_let_through(text: str) -> None:
    assert fault_of(CommandLine("page", text, True)) is None


def test_commands_are_found_in_blocks_and_sentences() -> None:
    text = "Say `facerec zoo --json`.\n\n```\nA=1 facerec data demo \\\n    out\nfacerec/cli\n```\n\n    facerec sync\n"
    assert [line.text for line in command_lines("page", text)] == ["data demo  out", "sync", "zoo --json"]


def test_a_broken_link_is_found() -> None:
    assert broken_link("README.md", "docs/nothing.md")
    assert broken_link("README.md", "docs/design.md#nothing")
    assert broken_link("docs/design.md", "docs/design.md")
    assert not broken_link("docs/design.md", "../README.md")
    assert not broken_link("README.md", "docs/design.md#rooms")
    assert links('[a](b.md) `[c](d.md)` ![e](f.png "g") <img src="h.png">') == ["b.md", "f.png", "h.png"]
    assert anchors("# A `b` c\n## A b, c\n## D\n") == {"a-b-c", "a-b-c-1", "d"}


def test_an_unknown_key_is_found() -> None:
    assert unknown_keys(Block("page", "yaml", "training: {lr: 1, larning: 2}")) == ["training.larning"]
    assert unknown_keys(Block("page", "yaml", "apiVersion: batch/v1")) == []
    assert unknown_keys(Block("page", "yaml", "space: {head.marg: {float: [0, 1]}}\nbudget: {trails: 3}")) == [
        "budget.trails",
        "head.marg",
    ]
