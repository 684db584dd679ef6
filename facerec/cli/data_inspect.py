"""``facerec data inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
@debug_option
def inspect(path: Path, as_json: bool) -> None:
    """Say what PATH holds: a training pack (its folder or train.rec) or a pair set (.bin)."""
    from facerec.data.inspect import describe, inspect_path

    facts = inspect_path(path)
    if as_json:
        echo_json(facts)
    else:
        click.echo(describe(facts))
