"""What all data commands have in common: help, one JSON object on standard output, progress on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from facerec.cli.data import data
from facerec.cli.data_progress import parse_size
from facerec.cli.main import cli
from facerec.data.synthetic import write_synthetic_pack
from facerec.errors import UsageError

_COMMANDS = sorted(data.list_commands(click.Context(data)))


def test_the_commands_are_all_there() -> None:
    names = "align dedupe demo inspect merge pack subset synthetic unpack verify"
    assert " ".join(_COMMANDS) == names


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help_json_and_debug(name: str) -> None:
    result = CliRunner().invoke(cli, ["data", name, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output
    assert "--debug" in result.output


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from facerec.cli.main import cli\n"
        "for name in sys.argv[1:]:\n"
        "    try: cli.main(['data', name, '--help'], standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'simplejpeg', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, *_COMMANDS], check=True, capture_output=True, timeout=60)


def test_a_terminal_sees_progress_and_standard_output_stays_json(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=3, images_per_identity=2, side=32)
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "facerec", "data", "verify", str(made.folder), "--workers", "0", "--json"]
    # A terminal that can write a line over; on a dumb one no bar is drawn.
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment)
    os.close(terminal)
    output, _ = process.communicate(timeout=60)
    assert json.loads(output)["intact"] is True
    shown = b""
    while True:
        try:
            chunk = os.read(main_end, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(main_end)
    assert b"images decoded" in shown
    assert b"6/6" in shown


@pytest.mark.parametrize(("text", "size"), [("112", (112, 112)), ("112x96", (112, 96)), ("112X96", (112, 96))])
def test_sizes_are_height_and_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "112x", "1x2x3", "-1", "1.5", "²"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)
