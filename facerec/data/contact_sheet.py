"""A picture of what a pack or a pair set looks like."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.packing.identities import Identity, list_identities
from facerec.data.pairs import PairSet
from facerec.errors import ImageError
from facerec.fsio import atomic_write_bytes
from facerec.rng import counter_generator

__all__ = ["write_pack_sheet", "write_pair_sheet"]

_TILE = 112
_GAP = 4
_CAPTION = 18
_ROWS, _COLUMNS = 8, 8
_PAIR_COLUMNS = 4
_PAIRS_OF_A_KIND = 16
_STREAM = 5
_BACKGROUND, _TEXT, _DAMAGED = (250, 250, 250), (40, 40, 40), (170, 170, 170)
# Okabe and Ito's blue and vermilion, told apart by most colour-blind readers.
_KINDS = {True: ((0, 114, 178), "genuine"), False: ((213, 94, 0), "impostor")}


def write_pack_sheet(pack: FacePack, path: Path, *, seed: int = 0) -> None:
    """Draw a strip of images for each of some identities, the same ones for the same seed.

    An image that cannot be decoded is a crossed grey tile.
    """
    strips = list(_strips(list_identities(pack), seed))
    width = max(column + len(keys) for _, _, column, keys in strips) * (_TILE + _GAP) + _GAP
    height = (strips[-1][1] + 1) * (_TILE + _GAP + _CAPTION) + _GAP
    sheet, pen = _blank(width, height)
    for identity, row, column, keys in strips:
        left, top = _GAP + column * (_TILE + _GAP), _GAP + row * (_TILE + _GAP + _CAPTION)
        pen.text((left, top + 2), _fit_text(_caption(identity), pen, len(keys) * (_TILE + _GAP) - 2 * _GAP), fill=_TEXT)
        for number, key in enumerate(keys):
            image = pack.read_image(key).image
            sheet.paste(_tile(image), (left + number * (_TILE + _GAP), top + _CAPTION))
    _save(sheet, path)


def _strips(identities: list[Identity], seed: int) -> Iterator[tuple[Identity, int, int, list[int]]]:
    """Identities in a random order with row, first column and keys; as many as fill the rows, each row to its end."""
    row = column = 0
    for place in counter_generator(seed, _STREAM).permutation(len(identities)).tolist():
        keys = identities[place].keys
        shown = keys[np.unique(np.linspace(0, len(keys) - 1, min(_COLUMNS, len(keys))).astype(int))].tolist()
        if column + len(shown) > _COLUMNS:
            row, column = row + 1, 0
        if row == _ROWS:
            return
        yield identities[place], row, column, shown
        column += len(shown)


def _caption(identity: Identity) -> str:
    is_number = identity.name.lstrip("0") == str(identity.label).lstrip("0")
    count = len(identity.keys)
    what = f"{count:,} image" + ("s" if count != 1 else "")
    return f"{identity.label}: {what}" if is_number else f"{identity.name}, {identity.label}: {what}"


def _fit_text(text: str, pen: ImageDraw.ImageDraw, width: int) -> str:
    """What the font at hand can show (Pillow's own has Latin letters), cut to a width in pixels."""
    text = "".join(character if character.isprintable() and ord(character) < 256 else "?" for character in text)
    while text and pen.textlength(text) > width:
        text = text[:-1]
    return text


def write_pair_sheet(pairs: PairSet, path: Path, *, seed: int = 0) -> None:
    """Draw some genuine and some impostor pairs, framed in blue and in orange."""
    chosen: list[int] = []
    for same in (True, False):
        places = np.flatnonzero(pairs.issame == same)
        number = min(_PAIRS_OF_A_KIND, len(places))
        chosen += sorted(counter_generator(seed, _STREAM, same).choice(places, number, replace=False).tolist())
    width, height = 2 * _TILE + 3 * _GAP, _TILE + 2 * _GAP + _CAPTION
    rows = -(-len(chosen) // _PAIR_COLUMNS)
    sheet, pen = _blank(min(_PAIR_COLUMNS, len(chosen)) * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    for place, pair in enumerate(chosen):
        left = _GAP + place % _PAIR_COLUMNS * (width + _GAP)
        top = _GAP + place // _PAIR_COLUMNS * (height + _GAP)
        colour, kind = _KINDS[bool(pairs.issame[pair])]
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
        pen.text((left + _GAP, top + 3), f"pair {pair}: {kind}", fill=(255, 255, 255))
        for side in (0, 1):
            tile = _tile(pairs.images[2 * pair + side])
            sheet.paste(tile, (left + _GAP + side * (_TILE + _GAP), top + _CAPTION))
    _save(sheet, path)


def _blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    return sheet, ImageDraw.Draw(sheet)


def _tile(image: bytes | memoryview) -> Image.Image:
    """The image within a square, its aspect kept."""
    tile = Image.new("RGB", (_TILE, _TILE), _BACKGROUND)
    try:
        picture = Image.fromarray(decode_image(image))
    except ImageError:
        tile.paste(_DAMAGED, (0, 0, _TILE, _TILE))
        ImageDraw.Draw(tile).line((0, 0, _TILE, _TILE, _TILE, 0, 0, _TILE), fill=_TEXT, width=2)
        return tile
    scale = _TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    fitted = picture.resize(size, Image.Resampling.BICUBIC)
    tile.paste(fitted, ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return tile


def _save(sheet: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    atomic_write_bytes(path, buffer.getvalue())
