"""Packs of any size without a single photograph: drawn heads, for tests and benchmarks.

The drawings have the makeup of aligned faces (one shape and colouring per identity; pose, light, noise and compression
per picture), so that readers, loaders and trainings have realistic work. They are no faces and stand for nobody;
accuracies on them say nothing about faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from facerec.data.packing.pack_writer import PackWriter
from facerec.data.packing.work_folder import full_disk_explained
from facerec.data.pair_lists import draw_pairs
from facerec.data.pairs import write_pairs
from facerec.data.parallel import count_workers, ordered_map
from facerec.errors import UsageError
from facerec.fsio import atomic_folder
from facerec.rng import counter_generator

__all__ = ["SyntheticPack", "draw_identity", "write_synthetic_pack"]

BIN_NAME = "synthetic.bin"
_SMALLEST_CANVAS = 48
"""Side of the smallest drawing from which the pictures of an identity are taken."""
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 1024
_IMAGES_PER_TASK = 256
_PAIR_PICTURES = 4
"""Pictures of every identity of the pair set."""
_MAX_PAIRS_PER_IDENTITY = 3
_Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with the number of images that are done and of all."""


@dataclass(frozen=True, kw_only=True)
class SyntheticPack:
    """What was written."""

    folder: Path
    bin_path: Path | None
    """The pair set, of identities that are not in the pack."""
    num_images: int
    num_identities: int
    num_pairs: int


def write_synthetic_pack(
    out: Path,
    *,
    num_identities: int,
    images_per_identity: int,
    side: int = 112,
    seed: int = 0,
    num_pairs: int = 0,
    quality: int = 90,
    workers: int | None = 0,
    progress: Progress | None = None,
) -> SyntheticPack:
    """Write a pack of drawn heads, in InsightFace's layout, and a pair set of other identities.

    The bytes depend on the numbers and the seed, not on the workers. The folder appears whole or not at all.

    Args:
        out: Folder to make.
        num_identities: Identities in the pack.
        images_per_identity: Pictures of each.
        side: Height and width in pixels.
        seed: Of all that is drawn.
        num_pairs: Pairs in ``synthetic.bin``, a multiple of 20; 0 for none.
        quality: Of the JPEGs, 1 to 100.
        workers: Processes that draw; 0 for this one, None for one per processor.
        progress: Told how far it is.

    Raises:
        UsageError: a number is out of range, or ``out`` exists.
    """
    _check_numbers(num_identities, images_per_identity, side, quality)
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder")
    total = num_identities * images_per_identity
    style = partial(_draw_task, side=side, seed=seed, quality=quality)
    processes = count_workers(workers, num_items=total)
    with full_disk_explained(out), atomic_folder(out) as folder:
        with PackWriter(folder) as writer:
            tasks = _tasks(num_identities, images_per_identity)
            for task, images in zip(tasks, ordered_map(style, tasks, workers=processes), strict=True):
                if task.first_image == 0:
                    writer.begin_identity(f"drawing {task.identity}")
                for image in images:
                    writer.add_image(image)
                if progress is not None:
                    progress(writer.num_images, total)
            writer.finish((side, side))
        if num_pairs:
            _write_pair_set(folder / BIN_NAME, style, num_identities, num_pairs, seed=seed, workers=processes)
    return SyntheticPack(
        folder=out,
        bin_path=out / BIN_NAME if num_pairs else None,
        num_images=total,
        num_identities=num_identities,
        num_pairs=num_pairs,
    )


@dataclass(frozen=True, slots=True)
class _Task:
    identity: int
    first_image: int
    num_images: int


def _check_numbers(num_identities: int, images_per_identity: int, side: int, quality: int) -> None:
    if num_identities < 1 or images_per_identity < 1:
        raise UsageError("a pack needs at least one identity with one image")
    if not _SMALLEST_SIDE <= side <= _LARGEST_SIDE:
        raise UsageError(f"a side of {side} pixels is not drawn; give {_SMALLEST_SIDE} to {_LARGEST_SIDE}")
    if not 1 <= quality <= 100:
        raise UsageError(f"JPEGs have a quality of 1 to 100, not {quality}")


def _tasks(num_identities: int, images_per_identity: int) -> list[_Task]:
    return [
        _Task(identity, first, min(_IMAGES_PER_TASK, images_per_identity - first))
        for identity in range(num_identities)
        for first in range(0, images_per_identity, _IMAGES_PER_TASK)
    ]


def _write_pair_set(
    path: Path,
    style: Callable[[_Task], list[bytes]],
    first_identity: int,
    num_pairs: int,
    *,
    seed: int,
    workers: int,
) -> None:
    """Pairs of the identities that follow those of the pack."""
    num_people = max(20, -(-num_pairs // (2 * _MAX_PAIRS_PER_IDENTITY)))
    pairs, issame = draw_pairs([_PAIR_PICTURES] * num_people, num_pairs, seed=seed)
    tasks = [_Task(first_identity + number, 0, _PAIR_PICTURES) for number in range(num_people)]
    drawn = list(ordered_map(style, tasks, workers=workers))
    write_pairs(path, [drawn[identity][number] for pair in pairs for identity, number in pair], issame)


def _draw_task(task: _Task, *, side: int, seed: int, quality: int) -> list[bytes]:
    canvas = Image.fromarray(draw_identity(task.identity, seed=seed, side=max(side, _SMALLEST_CANVAS)))
    numbers = range(task.first_image, task.first_image + task.num_images)
    return [_encode(_photograph(canvas, task.identity, number, side=side, seed=seed), quality) for number in numbers]


def _encode(pixels_HWC: NDArray[np.uint8], quality: int) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(pixels_HWC, quality=quality, colorspace="RGB", colorsubsampling="420")
    return encoded


def draw_identity(identity: int, *, seed: int = 0, side: int = 112) -> NDArray[np.uint8]:
    """The head of one identity from the front, in even light: (side, side, 3) uint8, RGB."""
    draw = counter_generator(seed, 1, identity).uniform
    row, column = np.mgrid[0:side, 0:side].astype(np.float32) / np.float32(side / 2) - np.float32(1)
    skin = np.array([draw(90, 240), draw(70, 190), draw(50, 160)], dtype=np.float32)
    hair, iris, lips, ground = (np.array(draw(20, 200, 3), dtype=np.float32) for _ in range(4))
    canvas = np.empty((side, side, 3), dtype=np.float32)
    canvas[:] = ground
    width, height = draw(0.52, 0.72), draw(0.76, 0.92)
    _paint(canvas, _ellipse(row, column, (-0.12, 0.0), (height * 1.08, width * draw(1.05, 1.3))), hair)
    _paint(canvas, _ellipse(row, column, (0.08, 0.0), (height, width)), skin)
    eye_row, eye_column, eye_width = draw(-0.16, -0.04), draw(0.22, 0.32), draw(0.09, 0.14)
    brow_row, brow_height = eye_row - draw(0.12, 0.2), draw(0.02, 0.05)
    for sign in (-1.0, 1.0):
        centre = (eye_row, sign * eye_column)
        _paint(canvas, _ellipse(row, column, centre, (eye_width * 0.6, eye_width)), np.float32(235))
        _paint(canvas, _ellipse(row, column, centre, (eye_width * 0.5, eye_width * 0.5)), iris)
        _paint(canvas, _ellipse(row, column, (brow_row, sign * eye_column), (brow_height, eye_width * 1.3)), hair * 0.6)
    _paint(canvas, _ellipse(row, column, (draw(0.12, 0.2), 0.0), (draw(0.12, 0.2), draw(0.05, 0.1))), skin * 0.82)
    _paint(canvas, _ellipse(row, column, (draw(0.42, 0.54), 0.0), (draw(0.04, 0.09), draw(0.16, 0.28))), lips)
    mark = (draw(-0.3, 0.6), draw(-0.4, 0.4))
    _paint(canvas, _ellipse(row, column, mark, (draw(0.02, 0.06), draw(0.02, 0.06))), skin * draw(0.3, 0.7))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _ellipse(row: _Floats, column: _Floats, centre: tuple[float, float], radii: tuple[float, float]) -> _Floats:
    """How much of each pixel an ellipse covers, 0 to 1, with an edge of about a pixel; (H, W)."""
    distance = np.hypot(
        (row - np.float32(centre[0])) / np.float32(radii[0]), (column - np.float32(centre[1])) / np.float32(radii[1])
    )
    sharpness = np.float32(min(radii) * len(row) / 2)
    covered: _Floats = np.clip((1 - distance) * sharpness + np.float32(0.5), 0, 1)
    return covered


def _paint(canvas_HWC: _Floats, covered_HW: _Floats, colour: _Floats | np.float32) -> None:
    canvas_HWC += covered_HW[..., None] * (colour - canvas_HWC)


def _photograph(canvas: Image.Image, identity: int, number: int, *, side: int, seed: int) -> NDArray[np.uint8]:
    """One picture: the drawing turned, moved and tilted, under a light of its own, with noise; (side, side, 3)."""
    generator = counter_generator(seed, 2, identity, number)
    posed = canvas.transform(
        (side, side),
        Image.Transform.PERSPECTIVE,
        _pose(generator, side, canvas_side=canvas.width),
        Image.Resampling.BILINEAR,
        fillcolor=canvas.getpixel((0, 0)),
    )
    pixels = np.asarray(posed).astype(np.int16)
    pixels += generator.integers(-9, 10, size=pixels.shape, dtype=np.int8)
    gain = generator.uniform(0.65, 1.2)
    slope_row, slope_column = generator.uniform(-0.3, 0.3, size=2)
    across = np.linspace(-1, 1, side, dtype=np.float32)
    light = np.float32(gain) * (1 + np.float32(slope_row) * across[:, None] + np.float32(slope_column) * across)
    return np.clip(pixels * light[..., None], 0, 255).astype(np.uint8)


def _pose(generator: np.random.Generator, side: int, *, canvas_side: int) -> tuple[float, ...]:
    """Pillow's eight coefficients, which take a pixel of the picture to its place on the canvas."""
    angle_rad, zoom = generator.normal(0.0, 0.08), generator.uniform(0.92, 1.1)
    move_row, move_column = generator.normal(0.0, 0.025, size=2) * canvas_side
    yaw, pitch = generator.normal(0.0, 0.12, size=2) / side
    scale = canvas_side / side / zoom
    cos, sin = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    half, centre = side / 2, canvas_side / 2
    start_column = centre + move_column - cos * half + sin * half
    start_row = centre + move_row - sin * half - cos * half
    matrix = np.array([[cos, -sin, start_column], [sin, cos, start_row], [yaw, pitch, 1 - (yaw + pitch) * half]])
    # The middle of the picture stays where it is: the perspective works about it.
    matrix[:2] += np.outer((centre + move_column, centre + move_row), matrix[2] - (0, 0, 1))
    matrix /= matrix[2, 2]
    return tuple(matrix.ravel()[:8].tolist())
