"""An index over templates, for galleries in which a matrix product gets slow; by faiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import DataError, MissingPathError, UsageError
from facerec.fsio import atomic_write_bytes

__all__ = ["INDEX_FROM", "INDEX_SUFFIX", "SearchIndex", "build_index", "read_index", "write_index"]

INDEX_FROM = 100_000
"""People above which a gallery gets an index; below, the exact search is faster than its users."""

INDEX_SUFFIX = ".faiss"
"""Ending of the file of an index, which has the name of its gallery otherwise."""

_NEIGHBOURS = 32
"""Links of a node; twice as many in the lowest layer."""
_BLOCK = 1 << 14
_EFFORT_BUILDING = 100
_EFFORT_SEARCHING = 256
"""Candidates that a search looks at: the price of its recall."""


class SearchIndex:
    """A graph of near neighbours (HNSW), searched by inner product."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def nearest(self, query_D: NDArray[np.float32], *, count: int) -> NDArray[np.int64]:
        """Rows of the ``count`` nearest templates, nearest first; a few can be missed, as in every such graph."""
        _, rows = self._index.search(query_D[None, :], count)
        found: NDArray[np.int64] = rows[0]
        return found[found >= 0]

    def serialise(self) -> bytes:
        """The index as faiss writes it."""
        content: bytes = _faiss().serialize_index(self._index).tobytes()
        return content


def build_index(templates_ND: NDArray[np.float32]) -> SearchIndex:
    """Build an index.

    Raises:
        UsageError: faiss is not installed.

    Source: Malkov and Yashunin 2016, arXiv:1603.09320.
    """
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(templates_ND.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _EFFORT_BUILDING
    index.add(np.ascontiguousarray(templates_ND, dtype=np.float32))
    index.hnsw.efSearch = _EFFORT_SEARCHING
    return SearchIndex(index)


def write_index(index: SearchIndex, path: Path) -> None:
    """Write an index file."""
    atomic_write_bytes(path, index.serialise())


def read_index(path: Path, *, like: NDArray[np.float32]) -> SearchIndex:
    """Read the index of a gallery.

    Raises:
        MissingPathError: the file is missing.
        DataError: it is damaged, of another kind, or holds other templates.
        UsageError: faiss is not installed.
    """
    faiss = _faiss()
    if not path.is_file():
        raise MissingPathError(f"the index {path} of the gallery is missing; build the gallery again")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise DataError(f"the index {path} is damaged; build the gallery again") from error
    if not isinstance(index, faiss.IndexHNSWFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataError(f"the index {path} is of a kind that `facerec gallery build` does not make; build it again")
    if not _holds(index, like):
        raise DataError(f"the index {path} belongs to another gallery; build the gallery again")
    index.hnsw.efSearch = _EFFORT_SEARCHING
    return SearchIndex(index)


def _holds(index: Any, templates_ND: NDArray[np.float32]) -> bool:
    """Whether the index is one of exactly these templates: one of another build of the gallery has the same shape."""
    if (index.ntotal, index.d) != templates_ND.shape:
        return False
    for start in range(0, len(templates_ND), _BLOCK):
        block = templates_ND[start : start + _BLOCK]
        if not np.array_equal(index.reconstruct_n(start, len(block)), block):
            return False
    return True


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UsageError(f"a gallery of more than {INDEX_FROM} people needs the extra 'index' (faiss)") from error
    return faiss
