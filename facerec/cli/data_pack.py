"""``facerec data pack``: own photographs to a training pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from facerec.cli.data_progress import parse_size, progress_bar, workers_option
from facerec.cli.options import debug_option, echo_json, json_option

if TYPE_CHECKING:
    from facerec.data.packing.pack_folder import Packed


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--size", default="112", show_default=True, metavar="N|HxW", help="Size of the images in the pack.")
@click.option("--quality", type=int, default=95, show_default=True, metavar="Q", help="Of images encoded anew.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "pad", "stretch"]),
    default="crop",
    show_default=True,
    help="Images of another aspect: cut out the middle, add black, or distort.",
)
@click.option("--min-images", type=int, default=1, show_default=True, metavar="K", help="Leave out people with fewer.")
@click.option(
    "--on-bad-image",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Stop at an image that cannot be used, or list it in rejected.tsv.",
)
@click.option("--pairs", "pair_list", type=click.Path(path_type=Path), metavar="FILE", help="A pairs.txt as LFW's.")
@click.option("--holdout-identities", type=int, default=0, metavar="N", help="Draw N people for verification.")
@click.option("--num-pairs", type=int, default=0, metavar="M", help="Pairs to draw of them, a multiple of 20.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Of the people and pairs drawn.")
@click.option(
    "--bin", "bin_name", default="holdout.bin", show_default=True, metavar="NAME", help="The pair set's file."
)
@click.option("--restart", is_flag=True, help="Throw away what an interrupted command has left, and begin again.")
@workers_option
@json_option
@debug_option
def pack(
    folder: Path,
    out: Path,
    size: str,
    quality: int,
    fit: Literal["crop", "pad", "stretch"],
    min_images: int,
    on_bad_image: Literal["fail", "skip"],
    pair_list: Path | None,
    holdout_identities: int,
    num_pairs: int,
    seed: int,
    bin_name: str,
    restart: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Pack FOLDER, which holds a folder of images for each person, into the folder OUT.

    OUT gets train.rec, train.idx, property and identities.tsv (label and name). JPEGs of the right size keep their
    bytes. People of the verification pairs, listed or drawn, are not in train.rec. Interrupted, the same command goes
    on where it was; OUT appears when it is complete.
    """
    from facerec.data.packing.pack_folder import PackOptions, pack_folder
    from facerec.data.packing.pair_choice import PairPlan
    from facerec.data.packing.prepare import ImageForm

    options = PackOptions(
        form=ImageForm(image_hw=parse_size(size), quality=quality, fit=fit),
        min_images=min_images,
        on_bad_image=on_bad_image,
        pairs=PairPlan(
            pair_list=pair_list, num_holdout=holdout_identities, num_pairs=num_pairs, bin_name=bin_name, seed=seed
        ),
    )
    with progress_bar("packing") as progress:
        made = pack_folder(folder, out, options=options, workers=workers, restart=restart, progress=progress)
    if as_json:
        echo_json(_facts(made))
    else:
        _show(made)


def _facts(made: Packed) -> dict[str, Any]:
    from facerec.data.packing.identity_names import printable

    return {
        "folder": str(made.folder),
        "num_images": made.num_images,
        "num_identities": made.num_identities,
        "bin_file": str(made.bin_path) if made.bin_path else None,
        "num_pairs": made.num_pairs,
        "pair_identities": made.num_pair_people,
        "rejected": [{"path": printable(row.path), "reason": printable(row.reason)} for row in made.rejected],
        "other_files": made.num_other_files,
        "resumed_at": made.resumed_at,
    }


def _show(made: Packed) -> None:
    if made.num_images:
        click.echo(f"{made.folder}: {made.num_images:,} images of {made.num_identities:,} people")
    else:
        click.echo(f"{made.folder}: no train.rec, as everybody is in the pairs")
    if made.resumed_at:
        click.echo(f"  {made.resumed_at:,} of them were packed before an interruption")
    if made.bin_path:
        people = f"{made.num_pair_people:,} people" + (" who are not in train.rec" if made.num_images else "")
        click.echo(f"  {made.bin_path.name}: {made.num_pairs:,} pairs of {people}")
    if made.rejected:
        click.echo(f"  rejected.tsv: {len(made.rejected):,} left out, with the reason for each")
    if made.num_other_files:
        click.echo(f"  {made.num_other_files:,} files that are no images of a person were passed over")
