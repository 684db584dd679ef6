"""Galleries: one template for each person, and the search of the nearest ones.

A gallery is one ``.safetensors`` file. It holds the templates, and as JSON in its header the names, the number of
pictures of each, the model that made them, and the threshold at a false positive identification rate.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from facerec.errors import DataError, MissingPathError, UsageError
from facerec.fsio import atomic_write_bytes
from facerec.serving.gallery_index import INDEX_FROM, INDEX_SUFFIX, SearchIndex, build_index, read_index, write_index

__all__ = ["Gallery", "GalleryFacts", "gallery_files", "load_gallery", "save_gallery"]

_FORMAT = 1
_KEY = "facerec_gallery"
_TENSOR = "templates"


@dataclass(frozen=True, kw_only=True)
class GalleryFacts:
    """What a gallery file says beside its templates."""

    names: tuple[str, ...]
    """One for each template."""
    counts: tuple[int, ...]
    """Pictures that each template was made of."""
    weights_sha256: str
    """Of the weights that made the templates; another model's embeddings cannot be compared with them."""
    flip: bool
    threshold: float | None
    """Similarity from which on a candidate is taken for the person, at ``fpir``; None with fewer than two people."""
    fpir: float | None
    """False positive identification rate: how often someone who is not in the gallery finds a match."""
    fpir_interval: tuple[float, float] | None
    """95 % interval of the rate at the threshold."""
    fpir_searches: int
    """Searches that the threshold comes from."""


class Gallery:
    """Templates that can be searched; one object serves all threads."""

    def __init__(
        self, templates_ND: NDArray[np.float32], facts: GalleryFacts, *, index: SearchIndex | None = None
    ) -> None:
        self.templates = templates_ND
        self.facts = facts
        self._index = index

    @property
    def threshold(self) -> float | None:
        """See `GalleryFacts`."""
        return self.facts.threshold

    @property
    def fpir(self) -> float | None:
        """See `GalleryFacts`."""
        return self.facts.fpir

    def search(self, embedding_D: NDArray[np.floating[Any]], *, top: int = 5) -> list[tuple[str, float]]:
        """The ``top`` nearest people and their similarities, nearest first; ties in the order of the gallery.

        Shape: ``embedding_D`` (D,), of length 1.
        """
        query = embedding_D.astype(np.float32)
        count = min(top, len(self.templates))
        if self._index is not None:
            chosen = self._index.nearest(query, count=count)
        else:
            chosen = np.arange(len(self.templates))
        scores = self.templates[chosen] @ query if self._index is not None else self.templates @ query
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.facts.names[chosen[place]], float(np.clip(scores[place], -1.0, 1.0))) for place in order]

    def check_model(self, weights_sha256: str, *, flip: bool) -> None:
        """Refuse to be searched with another model.

        Raises:
            UsageError: the templates come from other weights, or with another setting of the flip.
        """
        if weights_sha256 != self.facts.weights_sha256:
            raise UsageError("the gallery was made by another model; build it again with this one")
        if flip != self.facts.flip:
            raise UsageError("the gallery was made with another setting of the flip; build it again")


def save_gallery(gallery: Gallery, path: Path) -> None:
    """Write a gallery and, above `INDEX_FROM` people, the index beside it (``.faiss``).

    Raises:
        UsageError: an index is due and faiss is not installed, or ``path`` has the ending of an index.
    """
    if path.suffix == INDEX_SUFFIX:
        raise UsageError(
            f"{path}: {INDEX_SUFFIX} is the ending of a gallery's index; give another, such as .safetensors"
        )
    content = {"format": _FORMAT, **asdict(gallery.facts)}
    # The index first: a gallery of that size is not written without one.
    if len(gallery.templates) > INDEX_FROM:
        write_index(build_index(gallery.templates), path.with_suffix(INDEX_SUFFIX))
    metadata = {_KEY: json.dumps(content, ensure_ascii=False, allow_nan=False)}
    atomic_write_bytes(path, save({_TENSOR: np.ascontiguousarray(gallery.templates)}, metadata=metadata))


def load_gallery(path: Path) -> Gallery:
    """Read a gallery.

    Raises:
        MissingPathError: the file does not exist.
        DataError: it is no gallery, or damaged.
        UsageError: it needs faiss, which is not installed.
    """
    if not path.is_file():
        raise MissingPathError(f"gallery {path} does not exist; make one with `facerec gallery build`")
    try:
        with safe_open(os.fspath(path), framework="numpy") as stream:
            content = json.loads((stream.metadata() or {})[_KEY])
            templates = stream.get_tensor(_TENSOR)
        version = content.pop("format")
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        facts = GalleryFacts(**plain)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no gallery, or a damaged one; build it again") from error
    if version != _FORMAT or templates.ndim != 2 or len(facts.names) != len(templates) or not len(templates):
        raise DataError(f"{path} is no gallery that this version reads; build it again")
    if len(facts.counts) != len(templates) or not np.isfinite(templates).all():
        raise DataError(f"{path} is damaged; build it again")
    templates = templates.astype(np.float32, copy=False)
    _, *indices = gallery_files(path, people=len(templates))
    index = read_index(indices[0], like=templates) if indices else None
    return Gallery(templates, facts, index=index)


def gallery_files(path: Path, *, people: int) -> tuple[Path, ...]:
    """The files of a gallery of so many people: itself and, above `INDEX_FROM` people, its index.

    An index beside a smaller gallery is left from an earlier one and is no part of it.
    """
    return (path, path.with_suffix(INDEX_SUFFIX)) if people > INDEX_FROM else (path,)
