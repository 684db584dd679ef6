"""``facerec data subset``: some identities of a pack."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.data_progress import progress_bar
from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--identities", type=int, required=True, metavar="N", help="How many to draw.")
@click.option("--min-images", type=int, default=1, show_default=True, metavar="K", help="Of those with K or more.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of the drawing.")
@json_option
@debug_option
def subset(path: Path, out: Path, identities: int, min_images: int, seed: int, as_json: bool) -> None:
    """Draw identities of the pack PATH into a new pack in the folder OUT, with labels from 0."""
    from facerec.data.packing.combine import subset_pack

    with progress_bar("writing") as progress:
        made = subset_pack(path, out, num_identities=identities, min_images=min_images, seed=seed, progress=progress)
    if as_json:
        echo_json({"folder": str(out), "num_images": made.num_images, "num_identities": made.num_identities})
    else:
        click.echo(f"{out}: {made.num_images:,} images of {made.num_identities:,} identities")
