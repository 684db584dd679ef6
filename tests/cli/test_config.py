"""`facerec config`: the whole configuration, every problem at once, and the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from facerec.cli.main import main
from facerec.config.load import load_config


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  epochs: 7\n")
    return path


def test_show_prints_every_key_and_can_be_read_back(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("config", "show", file, "--set", "training.lr=0.025") == 0
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert shown["training"]["epochs"] == 7
    assert shown["training"]["lr"] == 0.025
    assert shown["head"]["scale"] == 64.0
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert load_config(copy) == load_config(file, ["training.lr=0.025"])


def test_validate_says_that_a_file_is_valid(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "validate", file) == 0
    assert capsys.readouterr().out == f"{file} is valid\n"


def test_validate_names_every_problem_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("training:\n  epochs: 0\n  learning_rate: 0.1\nhead:\n  type: arcfase\n")
    assert run("config", "validate", path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    for word in ("training.epochs", "training.learning_rate", "arcfase", "did you mean 'arcface'"):
        assert word in captured.err
    assert "Traceback" not in captured.err


def test_an_override_without_a_value_is_a_usage_error(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "show", file, "--set", "training.lr") == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "show", tmp_path / "absent.yaml") == 2
    assert "absent.yaml does not exist" in capsys.readouterr().err


def test_debug_adds_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "show", tmp_path / "absent.yaml", "--debug") == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_schema_is_one_json_object_that_explains_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "schema") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    schema = json.loads(captured.out)
    text = json.dumps(schema)
    assert "Learning rate after the warm-up" in text
    assert '"epochs"' in text


def test_list_names_every_shipped_configuration_and_study(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).resolve().parents[2]
    assert run("config", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {kind: set(names) for kind, names in listed.items()} == {
        kind: {path.stem for path in (root / kind).glob("*.yaml")} for kind in ("configs", "studies")
    }
    assert run("config", "list") == 0
    shown = capsys.readouterr().out
    assert all(name in shown and text in shown for names in listed.values() for name, text in names.items())


def test_a_shipped_configuration_is_shown_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("config", "show", "demo") == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert load_config("mine.yaml") == load_config("demo")
