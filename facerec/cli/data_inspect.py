"""``facerec data inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Folder for pictures.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of the images in the contact sheet.")
@json_option
@debug_option
def inspect(path: Path, output: Path | None, seed: int, as_json: bool) -> None:
    """Say what PATH holds: a training pack (its folder or train.rec) or a pair set (.bin).

    With --output, DIR gets contact_sheet.png, and of a pack histogram.png, the number of images per identity.
    """
    from facerec.data.inspect import describe, inspect_path

    facts = inspect_path(path, pictures=output, seed=seed)
    if as_json:
        echo_json(facts)
    else:
        click.echo(describe(facts))
