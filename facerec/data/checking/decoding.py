"""Decoding every image, in worker processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from facerec.data.checking.findings import Findings
from facerec.data.checking.walk import map_file
from facerec.data.decode import decode_image
from facerec.data.image_record import parse_image_record
from facerec.data.parallel import ordered_map
from facerec.data.record_parts import RecordFault, find_parts
from facerec.data.record_writer import MAGIC_BYTES
from facerec.errors import DataError

__all__ = ["decode_images", "decode_records"]

_IMAGES_PER_TASK = 128
_FEW_IMAGES = 1024
Progress = Callable[[int, int], None]


class _Fault(NamedTuple):
    place: int
    problem: str


def decode_records(
    rec_path: Path,
    places: Sequence[tuple[int, int]],
    *,
    image_hw: tuple[int, int] | None,
    workers: int,
    findings: Findings,
    progress: Progress | None = None,
) -> None:
    """Decode the images of records, given by (key, offset); those that cannot be, or have another size, are noted."""
    decode = functools.partial(_decode_records, rec_path, image_hw=image_hw)
    offsets = [offset for _, offset in places]
    for place, problem in _faults(decode, offsets, workers, progress):
        key, offset = places[place]
        findings.add("image", f"record {key} at byte {offset}: {problem}", key=key, offset=offset)


def decode_images(images: Sequence[bytes], *, workers: int, progress: Progress | None = None) -> list[tuple[int, str]]:
    """Decode encoded images; returns the place of each that cannot be decoded, and why."""
    return [(place, problem) for place, problem in _faults(_decode_images, images, workers, progress)]


def _faults(decode, items: Sequence, workers: int, progress: Progress | None) -> list[_Fault]:  # noqa: ANN001
    starts = range(0, len(items), _IMAGES_PER_TASK)
    tasks = (items[start : start + _IMAGES_PER_TASK] for start in starts)
    faults = []
    # Starting processes takes longer than decoding a few images.
    workers = workers if len(items) > _FEW_IMAGES else 0
    for start, found in zip(starts, ordered_map(decode, tasks, workers=workers), strict=True):
        faults += [_Fault(start + place, problem) for place, problem in found]
        if progress is not None:
            progress(min(start + _IMAGES_PER_TASK, len(items)), len(items))
    return faults


@functools.lru_cache(maxsize=1)
def _mapped(path: Path):  # noqa: ANN202
    return map_file(path)


def _decode_records(
    rec_path: Path, offsets: Sequence[int], *, image_hw: tuple[int, int] | None
) -> list[tuple[int, str]]:
    view = _mapped(rec_path)
    faults = []
    for place, offset in enumerate(offsets):
        try:
            spans, _ = find_parts(
                lambda start, length: view[start : start + length], offset, limit=len(view), size=len(view)
            )
            payload = MAGIC_BYTES.join([view[begin:end] for begin, end in spans])
            height, width, _ = decode_image(parse_image_record(payload).image, what="its image").shape
        except (RecordFault, DataError) as error:
            faults.append((place, str(error)))
            continue
        if image_hw is not None and (height, width) != image_hw:
            faults.append((place, f"its image has {height}x{width} pixels, property says {image_hw[0]}x{image_hw[1]}"))
    return faults


def _decode_images(images: Sequence[bytes]) -> list[tuple[int, str]]:
    faults = []
    for place, image in enumerate(images):
        try:
            decode_image(image, what="it")
        except DataError as error:
            faults.append((place, str(error)))
    return faults
