"""The identities of a pack that exists, one after the other, and copying them into a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.packing.identity_names import read_identities
from facerec.data.packing.pack_writer import IDENTITIES_FILE, PackWriter
from facerec.data.packing.work_folder import full_disk_explained
from facerec.errors import DataError, UsageError
from facerec.fsio import atomic_folder

__all__ = ["Identity", "image_size", "list_identities", "write_identities"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """One identity of a pack."""

    pack: FacePack
    label: int
    name: str
    keys: NDArray[np.int64]
    """(images,) keys of its images, ascending."""

    def images(self) -> Iterator[tuple[int, bytes]]:
        """Key and encoded image of each.

        Raises:
            RecordError: a record is damaged.
        """
        for key in self.keys.tolist():
            yield key, bytes(self.pack.read_image(key).image)


def list_identities(pack: FacePack) -> list[Identity]:
    """The identities that have images, in the order of their labels.

    Names come from ``identities.tsv``; without it the label is the name, with leading zeros.

    Raises:
        DataError: a label is no class of the pack, or ``identities.tsv`` belongs to another pack.
    """
    labels = pack.labels()
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    groups = np.split(pack.image_keys[order], starts[1:])
    path = pack.rec_path.with_name(IDENTITIES_FILE)
    named = read_identities(path)
    counts = {label: len(keys) for label, keys in zip(present.tolist(), groups, strict=True)}
    if named is not None and {row.label: row.num_images for row in named if row.num_images} != counts:
        raise DataError(f"{path} does not fit {pack.rec_path.name}; remove it, or restore the one of this pack")
    names = {row.label: row.name for row in named or []}
    width = len(str(pack.num_classes - 1))
    return [
        Identity(pack, label, names.get(label, f"{label:0{width}d}"), keys)
        for label, keys in zip(present.tolist(), groups, strict=True)
    ]


def image_size(pack: FacePack) -> tuple[int, int]:
    """Height and width of the images: as ``property`` says, else of the first image."""
    if pack.image_hw is not None:
        return pack.image_hw
    key = int(pack.image_keys[0])
    height, width, _ = decode_image(pack.read_image(key).image, what=pack.describe(key)).shape
    return height, width


def write_identities(
    out: Path,
    identities: Sequence[Identity],
    *,
    image_hw: tuple[int, int],
    drop_keys: frozenset[int] = frozenset(),
    extra_files: Iterable[tuple[str, str]] = (),
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write a new pack of the given identities, numbered from 0 in their order; the images keep their bytes.

    Args:
        out: Folder to make; it appears whole or not at all.
        identities: In the order of their new labels; they may come from several packs.
        image_hw: For ``property``.
        drop_keys: Images to leave out.
        extra_files: Names and contents of more files for the folder.
        progress: Told how many images are done.

    Returns:
        The numbers of images and of identities written.

    Raises:
        UsageError: ``out`` exists.
        DataError: no image is left, a record is damaged, or the disk is full.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder")
    total = sum(len(identity.keys) for identity in identities)
    done = 0
    with full_disk_explained(out), atomic_folder(out) as folder:
        with PackWriter(folder) as writer:
            for identity in identities:
                writer.begin_identity(identity.name)
                for key, image in identity.images():
                    if key not in drop_keys:
                        writer.add_image(image)
                done += len(identity.keys)
                if progress is not None:
                    progress(done, total)
            writer.finish(image_hw)
        for name, content in extra_files:
            (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    return writer.num_images, writer.num_identities
