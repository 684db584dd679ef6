"""A part of a pack, and several packs in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facerec.data.pack import FacePack
from facerec.data.packing.identities import image_size, list_identities, write_identities
from facerec.errors import UsageError
from facerec.rng import counter_generator

__all__ = ["Written", "merge_packs", "subset_pack"]

_SUBSET_STREAM = 4
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The pack that was written."""

    folder: Path
    num_images: int
    num_identities: int


def subset_pack(
    path: Path,
    out: Path,
    *,
    num_identities: int,
    min_images: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Written:
    """Draw identities of a pack into a new one; they keep their order and get new labels from 0.

    Raises:
        UsageError: so many identities with so many images are not there, or ``out`` exists.
        DataError: the pack is damaged.
    """
    if num_identities < 1:
        raise UsageError(f"{num_identities} identities make no pack; ask for at least one")
    pack = FacePack.open(path)
    eligible = [identity for identity in list_identities(pack) if len(identity.keys) >= min_images]
    if num_identities > len(eligible):
        raise UsageError(
            f"{pack.rec_path} has {len(eligible)} identities with at least {min_images} images, not {num_identities}"
        )
    drawn = counter_generator(seed, _SUBSET_STREAM).choice(len(eligible), num_identities, replace=False)
    chosen = [eligible[place] for place in sorted(drawn.tolist())]
    images, identities = write_identities(out, chosen, image_hw=image_size(pack), progress=progress)
    return Written(folder=out, num_images=images, num_identities=identities)


def merge_packs(paths: Sequence[Path], out: Path, *, progress: Progress | None = None) -> Written:
    """Write the identities of several packs into one; the labels of each follow those of the one before.

    Identities are taken as different people, even under the same name: the new names begin with the pack's folder.

    Raises:
        UsageError: fewer than two packs, images of different sizes, or ``out`` exists.
        DataError: a pack is damaged.
    """
    if len(paths) < 2:
        raise UsageError("merging takes at least two packs and the folder to write")
    packs = [FacePack.open(path) for path in paths]
    sizes = [image_size(pack) for pack in packs]
    for pack, (height, width) in zip(packs, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise UsageError(
                f"{pack.rec_path} has images of {height}x{width}, but {packs[0].rec_path} has others "
                f"({sizes[0][0]}x{sizes[0][1]}); packs that are merged need one size"
            )
    identities = [
        replace(identity, name=f"{pack.rec_path.parent.name}/{identity.name}")
        for pack in packs
        for identity in list_identities(pack)
    ]
    images, written = write_identities(out, identities, image_hw=sizes[0], progress=progress)
    return Written(folder=out, num_images=images, num_identities=written)
