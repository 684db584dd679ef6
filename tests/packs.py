"""Small training packs and pair sets of drawn pictures, for tests of every room."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facerec.data.image_record import build_image_record
from facerec.data.pairs import write_pairs
from facerec.data.recordio import RecordWriter

__all__ = ["damage_picture", "draw", "encode_png", "write_pack", "write_pair_set"]


def draw(identity: int, picture: int, *, side: int = 32) -> NDArray[np.uint8]:
    """A picture of one identity: colours of a coarse grid that belong to the identity, and noise; (side, side, 3)."""
    grid = np.random.default_rng(identity).integers(40, 216, size=(4, 4, 3))
    noise = np.random.default_rng([identity, picture]).normal(0, 24, size=(side, side, 3))
    enlarged = grid.repeat(side // 4, axis=0).repeat(side // 4, axis=1)
    return np.clip(enlarged + noise, 0, 255).astype(np.uint8)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_pack(folder: Path, *, identities: int = 8, pictures: int = 8, side: int = 32) -> Path:
    """Write ``train.rec``, ``train.idx`` and ``property`` in InsightFace's layout; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    total = identities * pictures
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        writer.write(0, build_image_record(b"", label=[total + 1, total + 1 + identities]))
        for index in range(total):
            identity, picture = divmod(index, pictures)
            image = encode_png(draw(identity, picture, side=side))
            writer.write(index + 1, build_image_record(image, label=float(identity), record_id=index + 1))
        for identity in range(identities):
            span = [1 + identity * pictures, 1 + (identity + 1) * pictures]
            writer.write(total + 1 + identity, build_image_record(b"", label=span))
    (folder / "property").write_text(f"{identities},{side},{side}\n")
    return folder


def damage_picture(folder: Path, *, identity: int, picture: int, side: int = 32) -> None:
    """Overwrite the picture of a record of a pack that `write_pack` has written; the record itself stays sound."""
    path = folder / "train.rec"
    content = path.read_bytes()
    image = encode_png(draw(identity, picture, side=side))
    assert content.count(image) == 1
    path.write_bytes(content.replace(image, bytes(len(image))))


def write_pair_set(path: Path, *, pairs: int = 40, side: int = 32) -> Path:
    """Write a ``.bin`` of people outside the pack, genuine and impostor pairs in turn."""
    images: list[bytes] = []
    issame: list[bool] = []
    for number in range(pairs):
        genuine = number % 2 == 0
        a = 1000 + number // 4
        b = a if genuine else a + 1
        images += [encode_png(draw(a, number, side=side)), encode_png(draw(b, 500 + number, side=side))]
        issame.append(genuine)
    write_pairs(path, images, issame)
    return path
