"""What a person sees of a training: the lines of every process, the file, the bar."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest

from facerec.training.means import Window
from facerec.training.progress import Progress
from facerec.training.run_log import run_log

LOGGER = logging.getLogger("facerec")


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_file_begins_with_what_was_said_before_it_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, level = list(LOGGER.handlers), LOGGER.level
    path = tmp_path / "logs" / "run" / "train.log"
    with run_log(rank=0) as log:
        LOGGER.info("first")
        log.write_to(path)
        LOGGER.warning("second")
    LOGGER.warning("afterwards")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first", "WARNING second"]
    told = capsys.readouterr().err
    assert told.count("first") == told.count("second") == 1
    assert (LOGGER.handlers, LOGGER.level) == (before, level)


def test_a_log_that_is_there_is_gone_on_with(tmp_path: Path) -> None:
    for line in ("one", "two"):
        with run_log(rank=0) as log:
            log.write_to(tmp_path / "train.log")
            LOGGER.info(line)
    assert [line.split()[-1] for line in (tmp_path / "train.log").read_text().splitlines()] == ["one", "two"]


def test_the_other_processes_tell_warnings_alone_with_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    with run_log(rank=3):
        LOGGER.info("nothing new")
        LOGGER.warning("left out a damaged record")
    assert capsys.readouterr().err == "[process 3] left out a damaged record\n"


def test_an_error_in_the_training_leaves_no_handler(tmp_path: Path) -> None:
    before = list(LOGGER.handlers)

    def fail() -> None:
        with run_log(rank=0) as log:
            log.write_to(tmp_path / "train.log")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert LOGGER.handlers == before


def window() -> Window:
    return Window(loss=1.25, accuracy=0.5, images=32)


def progress(*, done: int = 0, is_shown: bool = True) -> Progress:
    return Progress(epoch=1, epochs=3, steps=4, done=done, images_per_step=16, is_shown=is_shown)


def test_without_a_terminal_a_window_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress(done=2) as bar:
        bar.advance()
        bar.tell(window(), lr=0.05, images_per_s=80.0)
    (line,) = caplog.messages
    assert "epoch 2/3" in line
    assert "3/4" in line, "a resumed epoch begins where it was left"
    assert "loss 1.2500" in line


def test_on_a_terminal_a_bar_moves_and_no_line_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with caplog.at_level(logging.INFO), progress() as bar:
        for _ in range(4):
            bar.advance()
        bar.tell(window(), lr=0.05, images_per_s=80.0)
    assert "epoch 2/3" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def test_a_process_that_does_not_report_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress(is_shown=False) as bar:
        bar.advance()
    assert terminal.getvalue() == ""


def test_on_a_terminal_lines_go_past_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with run_log(rank=0):
        LOGGER.info("run folder [bold]x[/bold]")
    # What looks like markup in a path is none.
    assert "run folder [bold]x[/bold]" in re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
