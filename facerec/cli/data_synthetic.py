"""``facerec data synthetic``: a pack of drawings."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.data_progress import progress_bar, workers_option
from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--identities", type=int, required=True, metavar="N", help="Identities in the pack.")
@click.option("--images", type=int, required=True, metavar="K", help="Images of every identity.")
@click.option("--size", type=int, default=112, show_default=True, metavar="PIXELS", help="Height and width.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of all that is drawn.")
@click.option("--pairs", type=int, default=0, metavar="M", help="Also write synthetic.bin with M pairs of others.")
@click.option("--quality", type=int, default=90, show_default=True, metavar="Q", help="Of the JPEGs.")
@workers_option
@json_option
@debug_option
def synthetic(
    out: Path,
    identities: int,
    images: int,
    size: int,
    seed: int,
    pairs: int,
    quality: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Write a pack of drawn heads into the folder OUT, for tests and benchmarks.

    The drawings are no faces: accuracies on them say nothing about faces. The same numbers and seed give the same
    bytes, whatever the number of workers.
    """
    from facerec.data.synthetic import write_synthetic_pack

    with progress_bar("drawing") as progress:
        made = write_synthetic_pack(
            out,
            num_identities=identities,
            images_per_identity=images,
            side=size,
            seed=seed,
            num_pairs=pairs,
            quality=quality,
            workers=workers,
            progress=progress,
        )
    if as_json:
        echo_json(
            {
                "folder": str(made.folder),
                "bin_file": str(made.bin_path) if made.bin_path else None,
                "num_images": made.num_images,
                "num_identities": made.num_identities,
                "num_pairs": made.num_pairs,
            }
        )
        return
    click.echo(f"{made.folder}: {made.num_images:,} drawings of {made.num_identities:,} identities")
    if made.bin_path:
        click.echo(f"  {made.bin_path.name}: {made.num_pairs:,} pairs of identities that are not in train.rec")
