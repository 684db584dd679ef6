"""From a folder of pictures to a gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.packing.scan import IMAGE_SUFFIXES
from facerec.errors import DataError, MissingPathError, UsageError
from facerec.metrics.intervals import clopper_pearson
from facerec.serving.gallery import Gallery, GalleryFacts
from facerec.serving.predictor import Predictor

__all__ = ["DEFAULT_FPIR", "enrol", "find_people", "identification_threshold"]

DEFAULT_FPIR = 1e-2
_BATCH = 64
_ROUNDING = 1e-6


def enrol(
    folder: Path,
    predictor: Predictor,
    *,
    fpir: float = DEFAULT_FPIR,
    progress: Callable[[int, int], None] | None = None,
) -> Gallery:
    """Make a gallery: each person's template is the mean of the embeddings of their pictures, at length 1.

    The threshold is the one at which a stranger finds a match in a share ``fpir`` of the searches. Strangers are made
    of the gallery's own pictures: each searches among all people but its own.

    Raises:
        MissingPathError, DataError: see `find_people`.
        UsageError: ``fpir`` is not between 0 and 1.
        ImageError: a picture cannot be read; the message names it.
    """
    if not 0.0 < fpir < 1.0:
        raise UsageError(f"a false positive identification rate lies between 0 and 1, not {fpir:g}")
    people = find_people(folder)
    paths = [path for pictures in people.values() for path in pictures]
    owners = np.repeat(np.arange(len(people)), [len(pictures) for pictures in people.values()])
    embeddings = _embed(predictor, paths, progress)
    sums = np.zeros((len(people), embeddings.shape[1]))
    np.add.at(sums, owners, embeddings.astype(np.float64))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    templates = (sums / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
    found = identification_threshold(embeddings, owners, templates, fpir=fpir) if len(people) > 1 else None
    facts = GalleryFacts(
        names=tuple(people),
        counts=tuple(len(pictures) for pictures in people.values()),
        weights_sha256=predictor.weights_sha256,
        flip=predictor.config.eval.flip,
        threshold=found[0] if found else None,
        fpir=fpir if found else None,
        fpir_interval=found[1] if found else None,
        fpir_searches=len(paths) if found else 0,
    )
    return Gallery(templates, facts)


def find_people(folder: Path) -> dict[str, list[Path]]:
    """Pictures by person: a sub-folder is a person, and so is a picture that lies in ``folder`` itself.

    As in packing, deeper folders belong to their person, and names that begin with a dot are passed over.

    Raises:
        MissingPathError: the folder does not exist.
        DataError: it holds no pictures, or a sub-folder and a picture have the same name.
    """
    if not folder.is_dir():
        raise MissingPathError(f"folder {folder} does not exist; give one with a sub-folder for each person")
    people: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        pictures = sorted(_pictures(entry))
        if not pictures:
            continue
        name = entry.name if entry.is_dir() else entry.stem
        if name in people:
            raise DataError(f"{folder} has two entries for '{name}'; put the pictures of a person into one sub-folder")
        people[name] = pictures
    if not people:
        raise DataError(f"{folder} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) and no sub-folders with any")
    return people


def _pictures(entry: Path) -> Iterator[Path]:
    # Below a person's folder `rglob` follows no links to folders, which may lead in a circle.
    for path in entry.rglob("*") if entry.is_dir() else [entry]:
        is_hidden = any(part.startswith(".") for part in path.relative_to(entry.parent).parts)
        if not is_hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def _embed(predictor: Predictor, paths: list[Path], progress: Callable[[int, int], None] | None) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(paths), _BATCH):
        parts.append(predictor.embed(*paths[start : start + _BATCH]))
        if progress is not None:
            progress(min(start + _BATCH, len(paths)), len(paths))
    return np.concatenate(parts)


def identification_threshold(
    embeddings_ND: NDArray[np.float32],
    owners_N: NDArray[np.intp],
    templates_PD: NDArray[np.float32],
    *,
    fpir: float,
) -> tuple[float, tuple[float, float]]:
    """The lowest similarity at which at most a share ``fpir`` of strangers' searches finds a match, and its interval.

    The second result is the 95 % interval of the rate at that threshold; searches of one person are not independent,
    so it is narrower than it should be where people have many pictures.

    Source: ISO/IEC 19795-1:2021, false positive identification rate; Clopper and Pearson 1934.
    """
    best = np.empty(len(embeddings_ND))
    for start in range(0, len(embeddings_ND), 1024):
        rows = slice(start, start + 1024)
        scores = embeddings_ND[rows] @ templates_PD.T
        scores[np.arange(len(scores)), owners_N[rows]] = -np.inf
        best[rows] = scores.max(axis=1)
    falling = np.sort(best.astype(np.float64))[::-1]
    # The first score that is one too many must fail, and equal ones with it; halfway to the next one above, so that
    # rounding in another order of summation changes nothing.
    barred = falling[int(np.floor(fpir * len(falling) + 1e-9))]
    above = falling[falling > barred]
    threshold = float((barred + above[-1]) / 2 if above.size else barred + _ROUNDING)
    hits = int(np.count_nonzero(best >= threshold))
    low, high = clopper_pearson(hits, len(best))
    return threshold, (low, high)
