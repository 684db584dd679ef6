"""What a training pack or a pair set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from facerec.data.contact_sheet import write_pack_sheet, write_pair_sheet
from facerec.data.histogram import count_buckets, write_histogram
from facerec.data.pack import FacePack
from facerec.data.packing.identities import image_size
from facerec.data.pairs import read_pairs
from facerec.errors import MissingPathError

__all__ = ["describe", "inspect_pack", "inspect_pairs", "inspect_path"]


def inspect_path(path: Path, *, pictures: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Facts of a pack (a folder or its ``train.rec``) or of a ``.bin``; see `inspect_pack` and `inspect_pairs`.

    Raises:
        MissingPathError: the path does not exist.
        DataError: the data is damaged.
    """
    if not path.exists():
        raise MissingPathError(f"{path} does not exist; name a pack's folder, its train.rec, or a .bin")
    inspect = inspect_pairs if path.is_file() and path.suffix == ".bin" else inspect_pack
    return inspect(path, pictures=pictures, seed=seed)


def inspect_pack(path: Path, *, pictures: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Counts, layout and picture size of a pack, as plain data.

    Args:
        path: Its folder or its ``train.rec``.
        pictures: Folder for ``histogram.png`` and ``contact_sheet.png``; None draws nothing.
        seed: Of the identities in the contact sheet.

    Raises:
        DataError: it is damaged.
    """
    pack = FacePack.open(path)
    # Where nothing but the labels tells how many identities there are, a number that no image has is none.
    per_identity = np.bincount(pack.labels(), minlength=pack.num_classes)
    if pack.num_classes_source == "labels":
        per_identity = per_identity[per_identity > 0]
    facts: dict[str, Any] = {
        "path": str(pack.rec_path),
        "records": len(pack.reader),
        "images": pack.num_images,
        "identities": len(per_identity),
        "images_per_identity": {
            "min": int(per_identity.min()),
            "median": float(np.median(per_identity)),
            "mean": round(float(per_identity.mean()), 3),
            "max": int(per_identity.max()),
        },
        "histogram": count_buckets(per_identity),
        "multipart_records": int(pack.multipart_records()),
        "layout": pack.layout,
        "image_shape": list(image_size(pack)),
        "bytes": pack.rec_path.stat().st_size,
        "bytes_per_record": round(pack.rec_path.stat().st_size / len(pack.reader), 1),
        "fingerprint": pack.fingerprint,
    }
    if pictures is not None:
        write_histogram(
            per_identity, pictures / "histogram.png", title=f"{pack.rec_path.parent.name}: images per identity"
        )
        write_pack_sheet(pack, pictures / "contact_sheet.png", seed=seed)
        facts["pictures"] = [str(pictures / name) for name in ("histogram.png", "contact_sheet.png")]
    return facts


def inspect_pairs(path: Path, *, pictures: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Counts and digest of a pair set, as plain data.

    Args:
        path: The ``.bin``.
        pictures: Folder for ``contact_sheet.png``; None draws nothing.
        seed: Of the pairs in the contact sheet.

    Raises:
        PairSetError: it is damaged or tries to run code.
    """
    pairs = read_pairs(path)
    facts: dict[str, Any] = {
        "path": str(path),
        "pairs": pairs.num_pairs,
        "genuine": pairs.num_genuine,
        "images": len(pairs.images),
        "distinct_images": len(set(pairs.images)),
        "bytes": path.stat().st_size,
        "sha256": pairs.sha256,
    }
    if pictures is not None:
        write_pair_sheet(pairs, pictures / "contact_sheet.png", seed=seed)
        facts["pictures"] = [str(pictures / "contact_sheet.png")]
    return facts


def describe(facts: dict[str, Any]) -> str:
    """The facts as lines for people."""
    lines = []
    for name, value in facts.items():
        if name == "histogram":
            value = ", ".join(f"{_range(row)}: {row['identities']:,}" for row in value)
        elif isinstance(value, dict):
            value = ", ".join(f"{part} {number:g}" for part, number in value.items())
        elif name == "image_shape":
            value = " x ".join(map(str, value))
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append(f"{name.replace('_', ' '):<20} {value}")
    return "\n".join(lines)


def _range(row: dict[str, int]) -> str:
    return str(row["from"]) if row["from"] == row["to"] else f"{row['from']}-{row['to']}"
