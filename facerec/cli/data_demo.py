"""``facerec data demo``: faces to try everything out with."""

from __future__ import annotations

from pathlib import Path

import click

from facerec.cli.options import debug_option, echo_json, json_option


@click.command()
@click.argument("out", default="data/orl", type=click.Path(path_type=Path))
@json_option
@debug_option
def demo(out: Path, as_json: bool) -> None:
    """Pack the ORL faces into the folder OUT (data/orl): 30 people for training, pairs of 10 others.

    Where OUT is complete already, nothing changes.
    """
    from facerec.data.demo import CREDIT, make_demo_data

    made = make_demo_data(out)
    if as_json:
        echo_json(
            {
                "folder": str(made.folder),
                "bin_file": str(made.bin_path),
                "num_images": made.num_images,
                "num_identities": made.num_identities,
                "num_pairs": made.num_pairs,
                "created": made.created,
                "credit": CREDIT,
            }
        )
        return
    click.echo(f"{made.folder}: {'made' if made.created else 'there already, nothing changed'}")
    click.echo(f"  train.rec: {made.num_images} images of {made.num_identities} people")
    click.echo(f"  {made.bin_path.name}: {made.num_pairs} pairs of people who are not in train.rec, one half genuine")
    click.echo(CREDIT)
