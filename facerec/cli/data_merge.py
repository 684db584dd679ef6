"""``facerec data merge``: several packs in one."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.data_progress import progress_bar
from facerec.cli.options import debug_option, echo_json, json_option
from facerec.errors import UsageError


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH PATH… OUT")
@json_option
@debug_option
def merge(paths: tuple[Path, ...], as_json: bool) -> None:
    """Write the packs PATH PATH… into one, in the folder OUT; the labels of each follow those of the one before.

    Identities of different packs stay different, even under one name. To leave out images that occur twice, run
    `facerec data dedupe` on the result.
    """
    from facerec.data.packing.combine import merge_packs

    *sources, out = paths
    if len(sources) < 2:
        raise UsageError("give at least two packs and then the folder to write: facerec data merge A B OUT")
    with progress_bar("writing") as progress:
        made = merge_packs(sources, out, progress=progress)
    if as_json:
        echo_json({"folder": str(out), "num_images": made.num_images, "num_identities": made.num_identities})
    else:
        click.echo(f"{out}: {made.num_images:,} images of {made.num_identities:,} identities")
