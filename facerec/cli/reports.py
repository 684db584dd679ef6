"""What commands print that measure models: how far they are, what they found, and where the reports lie."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from facerec.cli.options import echo_json

__all__ = ["echo_reports", "progress_on_stderr"]

_PROGRESS_INTERVAL_S = 5.0


def echo_reports(results: Any, text: str, files: Sequence[Path], *, as_json: bool) -> None:
    """Print results on standard output, as JSON or as text, and the files of the reports on standard error."""
    if as_json:
        echo_json(results)
    else:
        click.echo(text, nl=False)
    for path in files:
        click.echo(f"wrote {path}", err=True)


def progress_on_stderr() -> Callable[[str, int, int], None]:
    """A line that is written over on a terminal; elsewhere a line every few seconds.

    The result takes the name of what is under way, and the numbers of images that are done and of all.
    """
    on_terminal = sys.stderr.isatty()
    last_s = time.monotonic()

    def show(name: str, done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done < total and now_s - last_s < (0.1 if on_terminal else _PROGRESS_INTERVAL_S):
            return
        last_s = now_s
        ends_line = done == total or not on_terminal
        start = "\r" if on_terminal else ""
        click.echo(f"{start}{name}: {done} of {total} images", err=True, nl=ends_line)

    return show
