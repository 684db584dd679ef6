"""A progress bar on standard error for the commands that take long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from facerec.errors import UsageError

__all__ = ["parse_size", "progress_bar", "workers_option"]

Progress = Callable[[int, int], None]


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """Yield a function that takes what is done and what there is in all; off a terminal nothing is drawn."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def workers_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--workers``."""
    decorate = click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=None,
        metavar="N",
        help="Processes that decode and encode; 0 for none beside this one. Default: one per processor.",
    )
    return decorate(command)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of ``112`` or ``112x96``.

    Raises:
        UsageError: it is neither.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise UsageError(f"'{text}' is no size; give one such as 112, or height x width such as 112x96")
    return int(sides[0]), int(sides[-1])
