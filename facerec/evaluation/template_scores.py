"""Templates of a set: embedded, pooled, verified one to one, searched one to many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facerec.data.align.geometry import fit_similarity, template_for, warp_face
from facerec.data.decode import read_image_file
from facerec.errors import DataError
from facerec.evaluation.embed import Progress, embed_decoded
from facerec.evaluation.template_files import Lookup, TemplateSet
from facerec.metrics.identification import OpenSetPoint, RankRate, SearchResult, open_set_point, rank_rate, search
from facerec.metrics.rates import tar_nearest_far
from facerec.metrics.roc import OperatingPoint, Roc, auc, eer, far_label, roc_curve, tar_at_far
from facerec.metrics.templates import pair_scores, pool_templates

__all__ = [
    "FARS",
    "FPIRS",
    "RANKS",
    "Identification",
    "PooledTemplates",
    "TemplateVerification",
    "embed_templates",
    "identify_templates",
    "verify_templates",
]

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Operating points of the published IJB tables."""
RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-1)

_BLOCK_IMAGES = 1 << 15
"""Images whose embeddings are in memory at once, if no template is larger: 128 MiB at 512 dimensions with the flip."""
_CMC_RANKS = 20
_CHUNK_PAIRS = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledTemplates:
    """Templates, rising, (T,), and their unit vectors, (T, D) float32."""

    numbers: NDArray[np.int64]
    embeddings: NDArray[np.float32]

    def rows(self, templates: NDArray[np.integer], *, what: str) -> NDArray[np.intp]:
        """The rows of templates, of any shape.

        Raises:
            DataError: a template has no image.
        """
        rows = np.searchsorted(self.numbers, templates).clip(max=self.numbers.size - 1)
        missing = self.numbers[rows] != templates
        if missing.any():
            raise DataError(f"{what} names template {templates[missing][0]}, which has no image")
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class TemplateVerification:
    """One-to-one results."""

    roc: Roc
    auc: float
    eer: float
    points: tuple[OperatingPoint, ...]
    nearest: Mapping[str, float]
    """TAR at the FAR nearest to each target, as published tables read it, by the label of the FAR."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Identification:
    """One-to-many results."""

    ranks: Mapping[str, tuple[RankRate, ...]]
    """Closed set, by gallery; ``all`` joins the galleries where there are several."""
    cmc: Mapping[str, NDArray[np.float64]]
    """Identification rates from rank 1 on, by gallery."""
    open_set: tuple[OpenSetPoint, ...]
    """Every probe searched in every gallery for itself; empty where all probes are in all galleries."""


def embed_templates(
    backbone: nn.Module,
    templates: TemplateSet,
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool = True,
    progress: Progress | None = None,
) -> PooledTemplates:
    """Embed the images of whole templates, some at a time, and keep the pooled vectors alone.

    Pictures with landmarks are aligned by the similarity transform to the template of ArcFace.

    Raises:
        ImageError, DataError: an image is missing or damaged, or its face lies outside; the message names the file.
        ModelError, UsageError: as `embed_decoded` and `template_for`.
    """
    if not len(templates.templates):
        raise DataError(f"{templates.name} lists no images")
    order = np.argsort(templates.templates, kind="stable")
    total = len(order)
    decode = _decoder(templates, image_hw)
    numbers, pooled = [], []
    for start, stop in _blocks(templates.templates[order]):
        rows = order[start:stop]

        def decode_row(index: int, rows: NDArray[np.intp] = rows) -> NDArray[np.uint8]:
            return decode(int(rows[index]))

        def name_of(index: int, rows: NDArray[np.intp] = rows) -> str:
            return str(templates.image_paths[int(rows[index])])

        def tell(done: int, _: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, total)

        found = embed_decoded(
            backbone,
            len(rows),
            decode_row,
            device=device,
            batch_size=batch_size,
            flip=flip,
            name_of=name_of,
            progress=tell,
        )
        summed = found.original if found.flipped is None else found.original + found.flipped
        known, vectors = pool_templates(
            summed, templates=templates.templates[rows], media=templates.media[rows], weights=templates.weights[rows]
        )
        numbers.append(known)
        pooled.append(vectors)
    return PooledTemplates(numbers=np.concatenate(numbers), embeddings=np.concatenate(pooled))


def verify_templates(
    pooled: PooledTemplates, pairs: NDArray[np.int32], genuine: NDArray[np.bool_]
) -> TemplateVerification:
    """Exact figures over all pairs.

    Raises:
        DataError: a pair names a template without images.
        MetricError: one kind of pair is missing.
    """
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), _CHUNK_PAIRS):
        some = slice(start, start + _CHUNK_PAIRS)
        scores[some] = pair_scores(pooled.embeddings, pooled.rows(pairs[some], what="a pair"))
    roc = roc_curve(scores, genuine)
    return TemplateVerification(
        roc=roc,
        auc=auc(roc),
        eer=eer(roc),
        points=tuple(tar_at_far(roc, far) for far in FARS),
        nearest={far_label(far): tar_nearest_far(roc, far) for far in FARS},
    )


def identify_templates(pooled: PooledTemplates, galleries: Mapping[str, Lookup], probes: Lookup) -> Identification:
    """Search every probe in every gallery and, where there are several, in all of them together.

    Raises:
        DataError: a list names a template without images.
        MetricError: no probe is in a gallery.
    """
    lists = dict(galleries)
    if len(lists) > 1:
        lists["all"] = Lookup(
            templates=np.concatenate([gallery.templates for gallery in galleries.values()]),
            people=np.concatenate([gallery.people for gallery in galleries.values()]),
        )
    results = {name: _search(pooled, gallery, probes, name=name) for name, gallery in lists.items()}
    apart = [results[name] for name in galleries]
    with_strangers = any(not result.mated.all() for result in apart)
    return Identification(
        ranks={name: tuple(rank_rate(result, rank) for rank in RANKS) for name, result in results.items()},
        cmc={name: _cmc(result) for name, result in results.items()},
        open_set=tuple(open_set_point(apart, fpir) for fpir in FPIRS) if with_strangers else (),
    )


def _decoder(templates: TemplateSet, image_hw: tuple[int, int]) -> Callable[[int], NDArray[np.uint8]]:
    landmarks = templates.landmarks
    if landmarks is None:
        return lambda row: read_image_file(templates.image_paths[row], image_hw=image_hw)
    points, target = landmarks, template_for(image_hw)

    def decode(row: int) -> NDArray[np.uint8]:
        path = templates.image_paths[row]
        try:
            # The landmarks belong to the stored picture, so it must not be turned upright first.
            photo = read_image_file(path, upright=False)
            return warp_face(photo, fit_similarity(points[row], target), image_hw)
        except DataError as error:
            raise type(error)(str(error) if str(path) in str(error) else f"{path}: {error}") from error

    return decode


def _blocks(rising: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Start and stop of blocks of whole templates."""
    ends = np.append(np.flatnonzero(rising[1:] != rising[:-1]) + 1, rising.size)
    blocks, start = [], 0
    while start < rising.size:
        fitting = int(np.searchsorted(ends, start + _BLOCK_IMAGES, side="right")) - 1
        stop = int(ends[max(fitting, int(np.searchsorted(ends, start, side="right")))])
        blocks.append((start, stop))
        start = stop
    return blocks


def _search(pooled: PooledTemplates, gallery: Lookup, probes: Lookup, *, name: str) -> SearchResult:
    entries = pooled.embeddings[pooled.rows(gallery.templates, what=f"gallery {name}")]
    asked = pooled.embeddings[pooled.rows(probes.templates, what="the probes")]

    def similarity(some: slice) -> NDArray[np.float64]:
        return (asked[some] @ entries.T).astype(np.float64)

    return search(similarity, gallery_people=gallery.people, probe_people=probes.people)


def _cmc(result: SearchResult) -> NDArray[np.float64]:
    ranks = range(1, min(_CMC_RANKS, result.num_people) + 1)
    return np.array([rank_rate(result, rank).rate for rank in ranks])
