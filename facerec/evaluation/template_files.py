"""Sets of templates on the disk: the layout of IJB-B and IJB-C, and a simple one of CSV files."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError

__all__ = ["Lookup", "TemplateSet", "read_templates"]

_CHUNK_BYTES = 1 << 24
_NUM_LANDMARKS = 10
_SUBSETS = ("ijbb", "ijbc")
_IMAGES, _PAIRS, _PROBE = "images.csv", "pairs.csv", "probe.csv"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """Templates and the person of each; both (T,) int64."""

    templates: NDArray[np.int64]
    people: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class TemplateSet:
    """Images, the templates that they make up, and what is asked about them."""

    name: str
    image_paths: Sequence[Path]
    """(N,)."""
    templates: NDArray[np.int64]
    """(N,)."""
    media: NDArray[np.int64]
    """(N,)."""
    weights: NDArray[np.float32]
    """(N,), detector scores; ones where the files hold none."""
    landmarks: NDArray[np.float64] | None
    """(N, 5, 2), x and y in pixels of the image; None for images that are aligned already."""
    pairs: NDArray[np.int32] | None
    """(P, 2), templates; None where nothing is to be verified."""
    genuine: NDArray[np.bool_] | None
    """(P,)."""
    galleries: dict[str, Lookup]
    """By name; empty where nothing is to be searched."""
    probes: Lookup | None

    @property
    def digest(self) -> str:
        """SHA-256 of the lists, which are what the figures depend on beside the pictures; those are not read for it."""
        lists = [self.templates, self.media, self.weights, self.landmarks, self.pairs, self.genuine]
        for lookup in (*self.galleries.values(), *([self.probes] if self.probes is not None else [])):
            lists += [lookup.templates, lookup.people]
        digest = hashlib.sha256("\n".join([*(path.name for path in self.image_paths), *self.galleries]).encode())
        for values in lists:
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """How much there is of everything."""
        return {
            "images": len(self.image_paths),
            "templates": len(np.unique(self.templates)),
            "pairs": 0 if self.pairs is None else len(self.pairs),
            "probes": 0 if self.probes is None else len(self.probes.templates),
        }


def read_templates(folder: str | Path, *, name: str | None = None) -> TemplateSet:
    """Read a folder of templates.

    IJB-B and IJB-C have ``meta/<set>_face_tid_mid.txt``, ``…_name_5pts_score.txt``, ``…_template_pair_label.txt``,
    ``…_1N_gallery_….csv``, ``…_1N_probe_mixed.csv`` and the pictures under ``loose_crop``. The simple layout has
    ``images.csv`` (columns image, template and, optionally, media, score, x1, y1 … x5, y5), ``pairs.csv``
    (template_a, template_b, genuine), ``gallery*.csv`` and ``probe.csv`` (template, person); people may be any text.

    Raises:
        MissingPathError: the folder, or a file that it needs, is not there.
        DataError: a file is damaged; the message names it and the line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingPathError(f"folder of templates {folder} does not exist; check the path")
    found = [subset for subset in _SUBSETS if (folder / "meta" / f"{subset}_face_tid_mid.txt").is_file()]
    if found:
        return _read_ijb(folder, found[0], name=name or found[0])
    if (folder / _IMAGES).is_file():
        return _read_simple(folder, name=name or folder.name)
    raise MissingPathError(
        f"{folder} holds neither meta/ijbb_face_tid_mid.txt or meta/ijbc_face_tid_mid.txt nor {_IMAGES}; name the "
        "folder of IJB-B or IJB-C, or of your own templates"
    )


def _read_ijb(folder: Path, subset: str, *, name: str) -> TemplateSet:
    meta = folder / "meta"
    media_path, points_path = meta / f"{subset}_face_tid_mid.txt", meta / f"{subset}_name_5pts_score.txt"
    names, templates, media = [], [], []
    for where, fields in _lines(media_path):
        _expect(where, "the name of an image, its template and its medium", holds=len(fields) == 3)
        names.append(fields[0])
        templates.append(_integer(fields[1], where))
        media.append(_integer(fields[2], where))
    cropped, numbers = [], []
    for where, fields in _lines(points_path):
        _expect(where, "the name of an image, ten coordinates and a score", holds=len(fields) == _NUM_LANDMARKS + 2)
        cropped.append(fields[0])
        numbers.append([_number(text, where) for text in fields[1:]])
    if cropped != names:
        raise DataError(f"{media_path} and {points_path} must list the same images in the same order")
    values = np.array(numbers, dtype=np.float64).reshape(-1, _NUM_LANDMARKS + 1)
    pairs_path = meta / f"{subset}_template_pair_label.txt"
    pairs, genuine = _read_number_pairs(pairs_path) if pairs_path.is_file() else (None, None)
    probe_path = meta / f"{subset}_1N_probe_mixed.csv"
    gallery_paths = sorted(meta.glob(f"{subset}_1N_gallery_*.csv"))
    galleries, probes = _read_search(gallery_paths, probe_path, prefix=f"{subset}_1N_gallery_")
    return TemplateSet(
        name=name,
        image_paths=[_inside(folder / "loose_crop", text, media_path) for text in names],
        templates=np.array(templates, dtype=np.int64),
        media=np.array(media, dtype=np.int64),
        weights=values[:, -1].astype(np.float32),
        landmarks=values[:, :-1].reshape(-1, 5, 2),
        pairs=pairs,
        genuine=genuine,
        galleries=galleries,
        probes=probes,
    )


def _read_simple(folder: Path, *, name: str) -> TemplateSet:
    path = folder / _IMAGES
    rows = list(_csv_rows(path, required=("image", "template")))
    points = [f"{axis}{number}" for number in range(1, 6) for axis in "xy"]
    has_points = bool(rows) and points[0] in rows[0][1]
    paths, templates, media, weights, landmarks = [], [], [], [], []
    for index, (where, row) in enumerate(rows):
        paths.append(_inside(folder, row["image"], path))
        templates.append(_integer(row["template"], where))
        media.append(_integer(row["media"], where) if row.get("media") else index)
        weights.append(_number(row["score"], where) if row.get("score") else 1.0)
        if has_points:
            landmarks.append([_number(row.get(column) or "", where) for column in points])
    pairs_path = folder / _PAIRS
    pairs, genuine = _read_csv_pairs(pairs_path) if pairs_path.is_file() else (None, None)
    galleries, probes = _read_search(sorted(folder.glob("gallery*.csv")), folder / _PROBE, prefix="")
    return TemplateSet(
        name=name,
        image_paths=paths,
        templates=np.array(templates, dtype=np.int64),
        media=np.array(media, dtype=np.int64),
        weights=np.array(weights, dtype=np.float32),
        landmarks=np.array(landmarks).reshape(-1, 5, 2) if has_points else None,
        pairs=pairs,
        genuine=genuine,
        galleries=galleries,
        probes=probes,
    )


def _read_number_pairs(path: Path) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Lines of two templates and 0 or 1, millions of them, a few megabytes at a time."""
    parts, rest = [], b""
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            parts.append(_parse_numbers(lines + newline, path))
    parts.append(_parse_numbers(rest, path))
    table = np.concatenate(parts)
    if not len(table) or not np.isin(table[:, 2], (0, 1)).all():
        raise DataError(f"{path}: every line must hold two templates and 1 for one person or 0 for two")
    return np.ascontiguousarray(table[:, :2]), table[:, 2] == 1


def _parse_numbers(text: bytes, path: Path) -> NDArray[np.int32]:
    try:
        with warnings.catch_warnings():
            # Before numpy 2.3 what is no number was only warned of.
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ").reshape(-1, 3)
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{path}: every line must hold three whole numbers ({error})") from error
    if numbers.size and not -(2**31) <= numbers.min() <= numbers.max() < 2**31:
        raise DataError(f"{path} holds a number that is too large for a template")
    return numbers.astype(np.int32)


def _read_csv_pairs(path: Path) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    columns = ("template_a", "template_b", "genuine")
    rows = [[_integer(row[column], where) for column in columns] for where, row in _csv_rows(path, required=columns)]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    if not len(table) or not np.isin(table[:, 2], (0, 1)).all():
        raise DataError(f"{path}: genuine must be 1 for one person or 0 for two")
    return table[:, :2].astype(np.int32), table[:, 2] == 1


def _read_search(
    gallery_paths: Sequence[Path], probe_path: Path, *, prefix: str
) -> tuple[dict[str, Lookup], Lookup | None]:
    if not gallery_paths or not probe_path.is_file():
        return {}, None
    tables = {path.stem.removeprefix(prefix): _read_lookup(path) for path in gallery_paths}
    probe = _read_lookup(probe_path)
    # People are named by text; one numbering for all files makes them comparable.
    everybody = [person for _, people in (*tables.values(), probe) for person in people]
    codes = {person: code for code, person in enumerate(dict.fromkeys(everybody))}

    def numbered(table: tuple[list[int], list[str]]) -> Lookup:
        templates, people = table
        return Lookup(
            templates=np.array(templates, dtype=np.int64),
            people=np.array([codes[person] for person in people], dtype=np.int64),
        )

    return {name: numbered(table) for name, table in tables.items()}, numbered(probe)


def _read_lookup(path: Path) -> tuple[list[int], list[str]]:
    """Template and person of each line; the first two columns, a line for each image or for each template."""
    found: dict[int, str] = {}
    for number, line in enumerate(_csv_lines(path), start=1):
        if number == 1:
            continue
        where = f"{path}: line {number}"
        _expect(where, "a template and its person", holds=len(line) >= 2 and bool(line[1].strip()))
        template, person = _integer(line[0], where), line[1].strip()
        if found.setdefault(template, person) != person:
            raise DataError(f"{where} gives template {template} another person than an earlier line")
    if not found:
        raise DataError(f"{path} lists no template")
    return list(found), list(found.values())


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    if not path.is_file():
        raise MissingPathError(f"{path} does not exist; it belongs to the set of templates")
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if fields := line.split():
                    yield f"{path}: line {number}", fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from error


def _csv_lines(path: Path) -> Iterator[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            yield from (line for line in csv.reader(stream) if line)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error


def _csv_rows(path: Path, *, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    lines = _csv_lines(path)
    head = [name.strip().lower() for name in next(lines, [])]
    if missing := [name for name in required if name not in head]:
        raise DataError(f"{path}: the first line lacks the column '{missing[0]}'; needed are {', '.join(required)}")
    for number, line in enumerate(lines, start=2):
        where = f"{path}: line {number}"
        if len(line) != len(head):
            raise DataError(f"{where} has {len(line)} columns, the first line {len(head)}")
        yield where, dict(zip(head, map(str.strip, line), strict=True))


def _inside(root: Path, text: str, source: Path) -> Path:
    given = Path(text)
    if not text or given.is_absolute() or ".." in given.parts:
        raise DataError(f"{source}: the image '{text[:80]}' must be a path inside {root}")
    return root / given


def _expect(where: str, what: str, *, holds: bool) -> None:
    if not holds:
        raise DataError(f"{where} must hold {what}")


def _integer(text: str, where: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise DataError(f"{where}: '{text[:40]}' is no whole number") from error
    if not -(2**31) <= value < 2**31:
        raise DataError(f"{where}: {text[:40]} is too large for the number of a template or medium")
    return value


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{where}: '{text[:40]}' is no number") from error
    if not np.isfinite(value):
        raise DataError(f"{where}: '{text[:40]}' is not finite")
    return value
