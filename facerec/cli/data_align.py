"""``facerec data align``: photographs to aligned faces."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from facerec.cli.data_progress import parse_size, progress_bar, workers_option
from facerec.cli.options import debug_option, device_option, echo_json, json_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--landmarks",
    "landmarks_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Five points per face, TSV or JSON; without it a detector looks for them.",
)
@click.option("--size", default="112x112", show_default=True, metavar="HxW", help="112x112 or 112x96.")
@click.option("--min-face", type=float, default=40.0, show_default=True, metavar="PIXELS", help="Smallest face.")
@click.option("--min-sharpness", type=float, default=15.0, show_default=True, metavar="S", help="Of the aligned face.")
@click.option("--max-residual", type=float, default=16.0, show_default=True, metavar="PIXELS", help="Of the landmarks.")
@click.option(
    "--several",
    type=click.Choice(["reject", "largest"]),
    default="reject",
    show_default=True,
    help="Photographs with several faces: list them, or take the largest.",
)
@click.option(
    "--quality", type=click.IntRange(1, 100), default=95, show_default=True, metavar="Q", help="Of the JPEGs."
)
@workers_option
@device_option
@json_option
@debug_option
def align(
    folder: Path,
    out: Path,
    landmarks_path: Path | None,
    size: str,
    min_face: float,
    min_sharpness: float,
    max_residual: float,
    several: Literal["reject", "largest"],
    quality: int,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Align the faces of FOLDER, which holds a folder of photographs for each person, into the folder OUT.

    Faces are turned, scaled and cut to ArcFace's template. Photographs without a face or with several, and faces that
    are too small, too blurred or turned away, are listed with the reason in OUT/report.tsv, which has a line for every
    photograph. A limit of 0 is none. Without --landmarks a detector is needed:
    python -m pip install --no-deps facenet-pytorch==2.6.0
    """
    from facerec.data.align.align_folder import AlignOptions, align_folder
    from facerec.data.align.quality import QualityGate

    options = AlignOptions(
        image_hw=parse_size(size),
        gate=QualityGate(min_face_pixels=min_face, min_sharpness=min_sharpness, max_residual=max_residual),
        several=several,
        quality=quality,
        device=_device(device),
    )
    with progress_bar("aligning") as progress:
        made = align_folder(
            folder, out, options=options, landmarks_path=landmarks_path, workers=workers, progress=progress
        )
    if as_json:
        echo_json(
            {
                "folder": str(made.folder),
                "photos": made.num_photos,
                "aligned": made.num_aligned,
                "rejected": made.rejected,
            }
        )
        return
    click.echo(f"{made.folder}: {made.num_aligned:,} faces of {made.num_photos:,} photographs")
    for kind, count in sorted(made.rejected.items()):
        click.echo(f"  {count:,} {kind}")
    click.echo("  report.tsv has a line for every photograph")


def _device(device: str) -> str:
    if not device:
        return "cpu"
    from facerec.models.device import resolve_device

    return str(resolve_device(device))
