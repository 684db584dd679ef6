"""What a training pack or a pair set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.pairs import read_pairs
from facerec.errors import MissingPathError

__all__ = ["describe", "inspect_pack", "inspect_pairs", "inspect_path"]


def inspect_path(path: Path) -> dict[str, Any]:
    """Facts of a pack (a folder or its ``train.rec``) or of a ``.bin``; see `inspect_pack` and `inspect_pairs`.

    Raises:
        MissingPathError: the path does not exist.
        DataError: the data is damaged.
    """
    if not path.exists():
        raise MissingPathError(f"{path} does not exist; name a pack's folder, its train.rec, or a .bin")
    return inspect_pairs(path) if path.is_file() and path.suffix == ".bin" else inspect_pack(path)


def inspect_pack(path: Path) -> dict[str, Any]:
    """Counts, layout and picture size of a pack, as plain data.

    Raises:
        DataError: it is damaged.
    """
    pack = FacePack.open(path)
    per_identity = np.bincount(pack.labels(), minlength=pack.num_classes)
    image_hw = pack.image_hw
    if image_hw is None:
        key = int(pack.image_keys[0])
        height, width, _ = decode_image(pack.read_image(key).image, what=pack.describe(key)).shape
        image_hw = (height, width)
    return {
        "path": str(pack.rec_path),
        "records": len(pack.reader),
        "images": pack.num_images,
        "identities": int(np.count_nonzero(per_identity)) if pack.num_classes_source == "labels" else pack.num_classes,
        "images_per_identity": {
            "min": int(per_identity.min()),
            "median": float(np.median(per_identity)),
            "max": int(per_identity.max()),
        },
        "multipart_records": int(pack.multipart_records()),
        "layout": pack.layout,
        "image_shape": list(image_hw),
        "bytes": pack.rec_path.stat().st_size,
        "fingerprint": pack.fingerprint,
    }


def inspect_pairs(path: Path) -> dict[str, Any]:
    """Counts and digest of a pair set, as plain data.

    Raises:
        PairSetError: it is damaged or tries to run code.
    """
    pairs = read_pairs(path)
    return {
        "path": str(path),
        "pairs": pairs.num_pairs,
        "genuine": pairs.num_genuine,
        "images": len(pairs.images),
        "distinct_images": len(set(pairs.images)),
        "bytes": path.stat().st_size,
        "sha256": pairs.sha256,
    }


def describe(facts: dict[str, Any]) -> str:
    """The facts as lines for people."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{part} {number:g}" for part, number in value.items())
        elif isinstance(value, list):
            value = " x ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append(f"{name.replace('_', ' '):<20} {value}")
    return "\n".join(lines)
