"""A folder of photographs to a folder of aligned faces, with a report on every photograph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facerec.data.align.detector import check_detector, detect_landmarks
from facerec.data.align.geometry import fit_similarity, template_for, warp_face
from facerec.data.align.landmarks import Landmarks, read_landmarks
from facerec.data.align.quality import QualityGate, face_pixels, reason_to_reject, sharpness
from facerec.data.decode import MAX_FILE_BYTES, decode_image
from facerec.data.packing.identity_names import escape
from facerec.data.packing.prepare import encode_jpeg
from facerec.data.packing.scan import SourceFolder, open_inside, scan_folder
from facerec.data.packing.work_folder import folder_of_many_files
from facerec.data.parallel import count_workers, ordered_map
from facerec.errors import DataError, UsageError

__all__ = ["REPORT_FILE", "AlignOptions", "Aligned", "align_folder"]

REPORT_FILE = "report.tsv"
_HEADING = "path\tresult\tfaces\tface_pixels\tsharpness\tresidual\treason"
_PHOTOS_PER_TASK = 8
_FEW_PHOTOS_FACTOR = 4
"""Aligning a photograph takes longer than packing an image, so that processes are worth while earlier."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """How to align, and what is good enough."""

    image_hw: tuple[int, int] = (112, 112)
    """112x112 or 112x96."""
    gate: QualityGate = field(default_factory=QualityGate)
    several: Literal["reject", "largest"] = "reject"
    """What happens to a photograph with several faces: it is listed, or its largest face counts."""
    quality: int = 95
    """Of the JPEGs."""
    device: str = "cpu"
    """Where the detector computes."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What was made."""

    folder: Path
    num_photos: int
    num_aligned: int
    rejected: dict[str, int]
    """How many photographs were listed, by the first words of the reason."""


class _Result(NamedTuple):
    """What became of one photograph."""

    face: bytes
    """The encoded face, empty where there is none."""
    num_faces: int
    pixels: float
    sharpness: float
    residual: float
    reason: str


def align_folder(
    source_path: Path,
    out: Path,
    *,
    options: AlignOptions,
    landmarks_path: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Aligned:
    """Align the faces of ``source_path``, a folder per person, into the folder ``out``, of the same structure.

    Landmarks come from a table or, without one, from the detector. Every photograph has its line in ``report.tsv``:
    what is too small, too blurred, without a face or with several is listed there and not written. A file keeps its
    name, with ``.jpg`` added where it has another ending. The folder appears whole or not at all.

    Raises:
        UsageError: ``out`` exists, there is no template of that size, or no detector.
        MissingPathError: the source or the table is missing.
        DataError: the table is damaged, no face is left, or the disk is full.
    """
    template_for(options.image_hw)
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder")
    source = scan_folder(source_path)
    if out.resolve().is_relative_to(source.root):
        raise UsageError(f"{out} lies inside {source_path}; name a folder outside of it")
    landmarks = None
    if landmarks_path is not None:
        landmarks = read_landmarks(landmarks_path)
    else:
        check_detector()
    # One process feeds a GPU; more of them would each load the detector into its memory.
    on_gpu = options.device != "cpu" and landmarks is None
    processes = 0 if on_gpu else count_workers(workers, num_items=_FEW_PHOTOS_FACTOR * source.num_images)
    with folder_of_many_files(out) as folder:
        report = _Report(folder)
        for done, (relative, result) in enumerate(_results(source, landmarks, options, processes), start=1):
            report.add(relative, result)
            if progress is not None:
                progress(done, source.num_images)
        for row in source.rejected:
            report.add(row.path, _rejected(f"unusable: {row.reason}"))
        report.write()
        if not report.num_aligned:
            kinds = ", ".join(f"{count} {kind}" for kind, count in report.rejected.items())
            raise DataError(f"no face of {source_path} is left ({kinds}); see facerec data align --help for the limits")
    return Aligned(
        folder=out,
        num_photos=source.num_images + len(source.rejected),
        num_aligned=report.num_aligned,
        rejected=report.rejected,
    )


class _Report:
    """Writes faces into a folder and notes what became of every photograph."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = [_HEADING]
        self.num_aligned = 0
        self.rejected: dict[str, int] = {}

    def add(self, relative: str, result: _Result) -> None:
        """Write the face of one photograph, or note why there is none."""
        if result.face:
            path = self._folder / _name_of_face(relative)
            while path.exists():
                # `a.png` and `a.png.jpg` would otherwise be one file.
                path = path.with_name(f"{path.name}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(result.face)
            self.num_aligned += 1
        else:
            kind = result.reason.partition(":")[0]
            self.rejected[kind] = self.rejected.get(kind, 0) + 1
        self._lines.append(_report_line(relative, result))

    def write(self) -> None:
        """Write ``report.tsv``."""
        content = "\n".join(self._lines) + "\n"
        (self._folder / REPORT_FILE).write_text(content, encoding="utf-8", errors="surrogateescape")


def _results(
    source: SourceFolder, landmarks: Landmarks | None, options: AlignOptions, workers: int
) -> Iterator[tuple[str, _Result]]:
    paths = [f"{person.name}/{image}" for person in source.people for image in person.images]
    tasks = [
        [
            (path, None if landmarks is None else landmarks.get(path, []))
            for path in paths[start : start + _PHOTOS_PER_TASK]
        ]
        for start in range(0, len(paths), _PHOTOS_PER_TASK)
    ]
    align = partial(_align_task, root=source.root, options=options)
    for task, results in zip(tasks, ordered_map(align, tasks, workers=workers), strict=True):
        for (path, _), result in zip(task, results, strict=True):
            yield path, result


def _align_task(
    task: list[tuple[str, list[NDArray[np.float64]] | None]], *, root: Path, options: AlignOptions
) -> list[_Result]:
    return [_align_file(path, faces, root=root, options=options) for path, faces in task]


def _align_file(path: str, faces: list[NDArray[np.float64]] | None, *, root: Path, options: AlignOptions) -> _Result:
    if faces is not None and not faces:
        return _rejected("no face: the landmarks do not name it")
    try:
        photo_HWC = decode_image(open_inside(root, path, max_bytes=MAX_FILE_BYTES), upright=True)
    except DataError as error:
        return _rejected(f"unusable: {error}")
    found = detect_landmarks(photo_HWC, device=options.device) if faces is None else faces
    if not found:
        return _rejected("no face: none was found")
    if len(found) > 1 and options.several == "reject":
        return _rejected(f"several faces: {len(found)}", num_faces=len(found))
    try:
        return _align_face(photo_HWC, found, options)
    except DataError as error:
        return _rejected(f"unusable: {error}", num_faces=len(found))


def _align_face(photo_HWC: NDArray[np.uint8], found: list[NDArray[np.float64]], options: AlignOptions) -> _Result:
    template = template_for(options.image_hw)
    similarity = min((fit_similarity(face, template) for face in found), key=lambda fitted: fitted.scale)
    face_HWC = warp_face(photo_HWC, similarity, options.image_hw)
    sharp = sharpness(face_HWC)
    reason = reason_to_reject(options.gate, similarity=similarity, image_hw=options.image_hw, sharpness_of_face=sharp)
    encoded = b"" if reason else encode_jpeg(face_HWC, quality=options.quality)
    pixels = face_pixels(similarity, options.image_hw)
    return _Result(encoded, len(found), pixels, sharp, similarity.residual, reason or "")


def _rejected(reason: str, *, num_faces: int = 0) -> _Result:
    return _Result(b"", num_faces, float("nan"), float("nan"), float("nan"), reason)


def _name_of_face(relative: str) -> str:
    return relative if relative.endswith(".jpg") else f"{relative}.jpg"


def _report_line(relative: str, result: _Result) -> str:
    values = [f"{value:.1f}" if value == value else "" for value in (result.pixels, result.sharpness, result.residual)]
    verdict = "aligned" if result.face else "rejected"
    return "\t".join([escape(relative), verdict, str(result.num_faces), *values, escape(result.reason)])
