"""A progress bar on standard error for the commands that take long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from facerec.errors import UsageError

__all__ = ["NamedProgress", "Progress", "parse_size", "progress_bar", "progress_bars", "workers_option"]

Progress = Callable[[int, int], None]
NamedProgress = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[NamedProgress]:
    """Yield a function that takes a name, what is done and what there is in all; one bar for each name.

    Off a terminal nothing is drawn.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """`progress_bars` with a single one."""
    with progress_bars() as show:
        yield lambda done, total: show(name, done, total)


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
