"""``facerec data unpack``: a pack or a pair set to files."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.data_progress import progress_bar
from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@json_option
@debug_option
def unpack(path: Path, out: Path, as_json: bool) -> None:
    """Write the images of PATH, a pack or a .bin, into the folder OUT: a folder for each identity.

    The files hold the bytes of the records. Of a .bin, people are those that genuine pairs tie together, and
    OUT/pairs.txt lists the pairs; `facerec data pack OUT NEW --pairs OUT/pairs.txt` makes the same .bin again.
    """
    from facerec.data.packing.unpack import unpack_path

    with progress_bar("unpacking") as progress:
        made = unpack_path(path, out, progress=progress)
    if as_json:
        echo_json(
            {
                "folder": str(made.folder),
                "num_images": made.num_images,
                "num_identities": made.num_identities,
                "num_pairs": made.num_pairs,
                "renamed": made.num_renamed,
            }
        )
        return
    click.echo(f"{made.folder}: {made.num_images:,} images of {made.num_identities:,} identities")
    if made.num_pairs:
        click.echo(f"  pairs.txt: {made.num_pairs:,} pairs")
    if made.num_renamed:
        click.echo(f"  {made.num_renamed:,} names cannot be names of folders; those folders have the label instead")
