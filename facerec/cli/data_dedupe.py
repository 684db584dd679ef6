"""``facerec data dedupe``: what is in a pack twice, and who is in a pair set too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facerec.cli.data_progress import NamedProgress, progress_bars
from facerec.cli.options import auto_device_option, debug_option, echo_json, json_option
from facerec.errors import UsageError

if TYPE_CHECKING:
    from facerec.data.duplicates import Duplicates
    from facerec.data.pack import FacePack
    from facerec.data.packing.combine import Written
    from facerec.data.pairs import PairSet
    from facerec.evaluation.leakage import Leakage, SharedIdentity

_SHOWN = 20
_TRUSTED_RATE = 0.001


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), metavar="FILE.bin", help="Also compare with a pair set.")
@click.option("--model", default="", metavar="MODEL", help="Find people of the pair set by the embeddings of a model.")
@click.option(
    "--threshold",
    type=float,
    default=0.5,
    show_default=True,
    metavar="T",
    help="Cosine from which an identity counts as a person of the pair set.",
)
@click.option("--images-per-identity", type=int, default=4, show_default=True, metavar="K", help="Images to embed.")
@click.option("--output", type=click.Path(path_type=Path), metavar="OUT", help="Write a pack without all that.")
@auto_device_option
@json_option
@debug_option
def dedupe(
    path: Path,
    against: Path | None,
    model: str,
    threshold: float,
    images_per_identity: int,
    output: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Report images of the pack PATH that occur twice, byte for byte, and what it shares with a pair set.

    Of equal images of one identity the first stays; equal images of different identities all go, as nobody knows whose
    they are; so do images of the pair set, and all images of identities that look like its people. Nothing changes in
    PATH; with --output the rest is written to OUT, and OUT/removed.tsv gives the reasons.
    """
    if model and against is None:
        raise UsageError("--model compares with a pair set; name one with --against FILE.bin")
    from facerec.data.duplicates import find_duplicates, write_without
    from facerec.data.pack import FacePack
    from facerec.data.pairs import read_pairs

    pack = FacePack.open(path)
    pairs = read_pairs(against) if against is not None else None
    with progress_bars() as progress:
        found = find_duplicates(
            pack,
            pair_images=pairs.images if pairs else (),
            progress=lambda done, total: progress("comparing bytes", done, total),
        )
        leakage: Leakage | None = None
        if pairs is not None and model:
            leakage = _find_shared(pack, pairs, model, device, threshold, images_per_identity, progress)
        written = None
        if output is not None:
            removals = [*found.removals, *_removals(leakage.shared if leakage else [])]
            written = write_without(
                pack, output, removals, progress=lambda done, total: progress("writing", done, total)
            )
    if as_json:
        echo_json(_facts(found, leakage, written))
    else:
        _show(found, leakage, written)


def _find_shared(
    pack: FacePack,
    pairs: PairSet,
    model: str,
    device: str,
    threshold: float,
    images_per_identity: int,
    progress: NamedProgress,
) -> Leakage:
    from facerec.evaluation.leakage import find_shared_identities
    from facerec.models.device import resolve_device
    from facerec.models.weights import load_backbone
    from facerec.serving.locate import locate_model

    chosen = resolve_device(device or "auto")
    loaded = load_backbone(locate_model(model), device=chosen)
    return find_shared_identities(
        pack,
        pairs,
        loaded.backbone,
        image_hw=loaded.config.image_hw,
        device=chosen,
        threshold=threshold,
        images_per_identity=images_per_identity,
        progress=lambda done, total: progress("embedding identities", done, total),
    )


def _removals(shared: list[SharedIdentity]) -> list[Any]:
    from facerec.data.duplicates import Removal

    return [
        Removal(key, one.label, f"looks like image {one.pair_image} of the pair set, cosine {one.similarity:.3f}")
        for one in shared
        for key in one.keys
    ]


def _facts(found: Duplicates, leakage: Leakage | None, written: Written | None) -> dict[str, Any]:
    from facerec.data.packing.identity_names import printable

    return {
        "images": found.num_images,
        "equal_within_identities": found.within,
        "equal_between_identities": found.between,
        "images_in_pair_set": found.in_pairs,
        "shared_identities": [
            {
                "label": one.label,
                "name": printable(one.name),
                "similarity": round(one.similarity, 6),
                "pair_image": one.pair_image,
                "images": len(one.keys),
            }
            for one in (leakage.shared if leakage else [])
        ],
        "impostor_rate_at_threshold": leakage.impostor_rate if leakage else None,
        "written": None
        if written is None
        else {
            "folder": str(written.folder),
            "num_images": written.num_images,
            "num_identities": written.num_identities,
        },
    }


def _show(found: Duplicates, leakage: Leakage | None, written: Written | None) -> None:
    click.echo(f"{found.num_images:,} images")
    for groups, what in ((found.within, "within one identity"), (found.between, "under different identities")):
        click.echo(f"  {len(groups):,} images occur more than once {what}")
        for keys in groups[:_SHOWN]:
            click.echo(f"    keys {', '.join(map(str, keys))}")
        if len(groups) > _SHOWN:
            click.echo(f"    … and {len(groups) - _SHOWN:,} more; --json lists all")
    if found.in_pairs:
        click.echo(f"  {len(found.in_pairs):,} images are in the pair set as well, byte for byte")
    if leakage is not None:
        _show_shared(leakage)
    if written is not None:
        click.echo(f"{written.folder}: {written.num_images:,} images of {written.num_identities:,} identities")


def _show_shared(leakage: Leakage) -> None:
    from facerec.data.packing.identity_names import printable

    click.echo(f"  {len(leakage.shared):,} identities look like people of the pair set")
    for one in leakage.shared[:_SHOWN]:
        click.echo(f"    {one.label} ({printable(one.name)}): cosine {one.similarity:.3f} with image {one.pair_image}")
    if len(leakage.shared) > _SHOWN:
        click.echo(f"    … and {len(leakage.shared) - _SHOWN:,} more; --json lists all")
    if leakage.impostor_rate > _TRUSTED_RATE:
        click.echo(
            f"  {100 * leakage.impostor_rate:.1f} % of the set's own impostor pairs reach this threshold, so many of "
            "these are other people; raise --threshold, or use a stronger model"
        )
