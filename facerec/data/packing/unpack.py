"""Packs and pair sets back to files that other programs read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facerec.data.pack import FacePack
from facerec.data.packing.identities import list_identities
from facerec.data.packing.work_folder import folder_of_many_files
from facerec.data.pair_lists import write_pair_list
from facerec.data.pairs import PairSet, read_pairs
from facerec.errors import UsageError

__all__ = ["Unpacked", "safe_folder_name", "unpack_path"]

_SUFFIXES = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"), (b"P", ".ppm"))
_LONGEST_NAME = 255
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What was written."""

    folder: Path
    num_images: int
    num_identities: int
    num_pairs: int
    num_renamed: int
    """Identities whose name is no safe name of a folder, which got their label as a name."""


def unpack_path(path: Path, out: Path, *, progress: Progress | None = None) -> Unpacked:
    """Write the images of a pack, or of a ``.bin`` with its ``pairs.txt``, as files in a folder per identity.

    The files hold the bytes of the records. ``pack`` makes the same pack, and the same ``.bin``, of them again.

    Raises:
        UsageError: ``out`` exists.
        MissingPathError: there is no such pack or pair set.
        DataError: it is damaged, or the disk is full.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder")
    if path.is_file() and path.suffix == ".bin":
        return _unpack_pairs(read_pairs(path), out)
    return _unpack_pack(FacePack.open(path), out, progress)


def safe_folder_name(name: str) -> bool:
    """Whether a name is one folder, no hidden one, and leads nowhere else."""
    return (
        bool(name)
        and not name.startswith(".")
        and not any(character in name for character in "/\\\0")
        and name == name.strip()
        and len(os.fsencode(name)) <= _LONGEST_NAME
    )


def _unpack_pack(pack: FacePack, out: Path, progress: Progress | None) -> Unpacked:
    identities = list_identities(pack)
    width = len(str(pack.num_classes - 1))
    taken: set[str] = set()
    num_renamed = done = 0
    with folder_of_many_files(out) as folder:
        for identity in identities:
            name = identity.name
            if not safe_folder_name(name) or name in taken:
                name = f"identity {identity.label:0{width}d}"
                while name in taken:
                    name += "_"
                num_renamed += 1
            taken.add(name)
            (folder / name).mkdir()
            for key, image in identity.images():
                (folder / name / f"{key:09d}{_suffix(image)}").write_bytes(image)
                done += 1
            if progress is not None:
                progress(done, pack.num_images)
    return Unpacked(folder=out, num_images=done, num_identities=len(identities), num_pairs=0, num_renamed=num_renamed)


def _unpack_pairs(pairs: PairSet, out: Path) -> Unpacked:
    people = _people(pairs)
    names: dict[int, tuple[str, str]] = {}
    with folder_of_many_files(out) as folder:
        for number, places in enumerate(people):
            name = f"person_{number:05d}"
            (folder / name).mkdir()
            written: dict[bytes, str] = {}
            for place in places:
                image = pairs.images[place]
                if image not in written:
                    written[image] = str(len(written) + 1)
                    (folder / name / f"{name}_{len(written):04d}{_suffix(image)}").write_bytes(image)
                names[place] = (name, written[image])
        listed = [(names[2 * pair], names[2 * pair + 1]) for pair in range(pairs.num_pairs)]
        write_pair_list(folder / "pairs.txt", listed, pairs.issame.tolist())
    num_images = len(set(names.values()))
    return Unpacked(
        folder=out, num_images=num_images, num_identities=len(people), num_pairs=pairs.num_pairs, num_renamed=0
    )


def _people(pairs: PairSet) -> list[list[int]]:
    """Places of images that genuine pairs and identical bytes tie together.

    Where an impostor pair contradicts that, its second image counts as a person of its own, so that the pair can be
    written.
    """
    parent = list(range(len(pairs.images)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first_of: dict[bytes, int] = {}
    for place, image in enumerate(pairs.images):
        parent[root(place)] = root(first_of.setdefault(image, place))
    for pair, same in enumerate(pairs.issame.tolist()):
        if same:
            one, other = sorted((root(2 * pair), root(2 * pair + 1)))
            parent[other] = one
    alone = {
        2 * pair + 1
        for pair, same in enumerate(pairs.issame.tolist())
        if not same and root(2 * pair) == root(2 * pair + 1)
    }
    people: dict[int, list[int]] = {}
    for place in range(len(pairs.images)):
        people.setdefault(-place if place in alone else root(place), []).append(place)
    return list(people.values())


def _suffix(image: bytes) -> str:
    return next((suffix for start, suffix in _SUFFIXES if image.startswith(start)), ".img")
