"""The command line: exit codes, one sentence for an error, and what is not imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from facerec import __version__
from facerec.cli import main as main_module
from facerec.cli.main import COMMANDS, cli, describe, main
from facerec.errors import CheckpointError, ConfigError, TrackingError
from facerec.training.interrupt import TrainingInterrupted

HEAVY = ("torch", "mlflow", "optuna", "matplotlib", "numpy", "pydantic", "PIL", "sklearn")


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make ``facerec zoo`` raise the given error."""

    def install(error: BaseException) -> None:
        def run() -> None:
            raise error

        flag = click.Option(["--debug"], is_flag=True, expose_value=False)
        command = click.Command("zoo", callback=run, params=[flag])
        monkeypatch.setattr(cli, "get_command", lambda ctx, name: command)

    return install


def test_success_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert __version__ in capsys.readouterr().out
    assert exit_code("--help") == 0
    assert exit_code("-h") == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("the work failed"), 1),
        (TrackingError("the work failed"), 1),
        (ConfigError("the work failed"), 2),
        (TrainingInterrupted("the work failed", signal_number=15), 143),
        (TrainingInterrupted("the work failed", signal_number=2), 130),
    ],
)
def test_an_error_is_one_sentence_on_standard_error(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    failing(error)
    assert exit_code("zoo") == code
    captured = capsys.readouterr()
    assert captured.err == "error: the work failed\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_the_keyboard_stops_with_130(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    failing(error)
    assert exit_code("zoo") == 130
    assert capsys.readouterr().err.strip() == "stopped"


def test_debug_shows_the_traceback_and_without_it_there_is_none(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ZeroDivisionError("one by\nnought"))
    assert exit_code("zoo") == 1
    plain = capsys.readouterr().err
    assert plain.splitlines() == [
        "error: unexpected ZeroDivisionError: one by nought; run again with --debug for the traceback"
    ]
    assert exit_code("zoo", "--debug") == 1
    detailed = capsys.readouterr().err
    assert detailed.startswith("Traceback (most recent call last)")
    assert detailed.splitlines()[-1] == plain.strip()


def test_an_error_of_the_system_names_the_file() -> None:
    assert describe(PermissionError(13, "Permission denied", "/x/y")) == "Permission denied (/x/y)"
    assert describe(OSError(28, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("train",), ("zoo", "--colour"), ("data", "nonsense"), ("predict", "a.png")]
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert exit_code(*arguments) == 2
    captured = capsys.readouterr()
    assert "Error: " in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "hint"), [(("trian",), "'train'"), (("data", "pakc"), "'pack'"), (("tets",), "'test'")]
)
def test_a_wrong_name_of_a_command_gets_a_near_one(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], hint: str
) -> None:
    assert exit_code(*arguments) == 2
    assert f"there is no command '{arguments[-1]}' (did you mean {hint}?)" in capsys.readouterr().err


def test_a_command_may_choose_its_exit_code(failing: Callable[[BaseException], None]) -> None:
    failing(click.exceptions.Exit(1))
    assert exit_code("zoo") == 1


def test_test_is_another_name_of_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("test", "--help") == 0
    assert "--embeddings" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert exit_code(name, "--help") == 0
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["data", "--help"], *([name, "--help"] for name in ("train", "predict", "evaluate"))]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from facerec.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(result.stderr))
    assert "facerec.cli.main" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
    assert "Usage: facerec" in result.stdout


def test_the_module_runs_like_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facerec", "config", "validate", str(tmp_path / "absent.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: config file")
    assert len(result.stderr.splitlines()) == 1
    assert main_module.main is main


@pytest.mark.parametrize(("given", "expected"), [(None, "true"), ("false", "false")])
def test_mlflow_reports_to_its_makers_only_where_the_environment_asks_for_it(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", given or "")
    if given is None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    assert exit_code("--version") == 0
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == expected
