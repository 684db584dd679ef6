"""Rows of base64 pictures to answers: what every way of serving shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.errors import ImageError, ModelError, UsageError
from facerec.serving.embedder import Embedder
from facerec.serving.gallery import Gallery
from facerec.serving.images import LIMITS, Budget, Limits, decode_text
from facerec.serving.request import Request
from facerec.serving.spec import PredictorSpec

__all__ = ["Answer", "Row", "Service"]

Answer = dict[str, Any]
_CHUNK = 64
"""Pictures that are decoded before they are embedded; more would only take memory."""
_PICTURE = "the picture"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a request, unchecked."""

    image_a: object
    image_b: object = None


class Service:
    """Answers requests; one object serves all threads."""

    def __init__(
        self, spec: PredictorSpec, embedder: Embedder, *, gallery: Gallery | None = None, limits: Limits = LIMITS
    ) -> None:
        self.spec = spec
        self._embedder = embedder
        self._gallery = gallery
        self._limits = limits

    def answer(self, rows: Sequence[Row], request: Request) -> list[Answer]:
        """One answer for each row, in their order.

        Equal texts are decoded and embedded once. A row that cannot be answered has a sentence under ``error``, and so
        have those for which the request's pixels or its time have run out.

        Raises:
            UsageError: there are too many rows, or the model has no gallery to search.
            FacerecError: with ``request.fail``, the first bad row.
        """
        if len(rows) > self._limits.rows:
            raise UsageError(f"{len(rows)} rows are too many; at most {self._limits.rows} are taken at once")
        gallery = self._gallery
        if request.mode == "search" and gallery is None:
            raise UsageError("this model was registered without a gallery; mode 'search' needs one")
        embeddings, errors = self._embed(rows, request)
        row_errors = [_first_error(row, number, request, errors) for number, row in enumerate(rows)]
        if request.fail and (first := next((error for error in row_errors if error), None)):
            raise ImageError(first)
        answers = []
        for row, error in zip(rows, row_errors, strict=True):
            if request.mode == "embed":
                answers.append(_embedding(row, embeddings, error))
            elif gallery is not None and request.mode == "search":
                answers.append(_matches(row, embeddings, error, gallery, request))
            else:
                answers.append(_similarity(row, embeddings, error, request))
        return answers

    def _embed(
        self, rows: Sequence[Row], request: Request
    ) -> tuple[dict[object, NDArray[np.float64]], dict[object, str]]:
        """Embeddings and sentences on failures, by text."""
        embeddings: dict[object, NDArray[np.float64]] = {}
        errors: dict[object, str] = {}
        pending: dict[object, NDArray[np.uint8]] = {}
        budget = Budget(self._limits)
        for text in _texts(rows, both=request.mode == "similarity"):
            if text in embeddings or text in errors or text in pending:
                continue
            try:
                pending[text] = decode_text(
                    text, image_hw=self.spec.image_hw, what=_PICTURE, limits=self._limits, budget=budget
                )
            except ImageError as error:
                errors[text] = str(error)
                if request.fail:
                    return embeddings, errors
            if len(pending) == _CHUNK:
                self._flush(pending, embeddings, errors, request, budget)
        self._flush(pending, embeddings, errors, request, budget)
        return embeddings, errors

    def _flush(
        self,
        pending: dict[object, NDArray[np.uint8]],
        embeddings: dict[object, NDArray[np.float64]],
        errors: dict[object, str],
        request: Request,
        budget: Budget,
    ) -> None:
        if not pending:
            return
        try:
            budget.check_time(what=_PICTURE)
            embedded = self._embedder.embed(np.stack(list(pending.values())), flip=request.flip)
            embeddings.update(zip(pending, embedded, strict=True))
        except (ImageError, ModelError) as error:
            errors.update(dict.fromkeys(pending, str(error)))
        pending.clear()


def _texts(rows: Sequence[Row], *, both: bool) -> Iterator[object]:
    for row in rows:
        yield row.image_a
        if both and _given(row.image_b):
            yield row.image_b


def _given(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _first_error(row: Row, number: int, request: Request, errors: dict[object, str]) -> str | None:
    if row.image_a in errors:
        return f"row {number}, image_a: {errors[row.image_a]}"
    if request.mode != "similarity":
        if _given(row.image_b):
            return f"row {number}: mode '{request.mode}' takes image_a alone; leave image_b out"
        return None
    if not _given(row.image_b):
        return f"row {number}: image_b is missing; mode 'similarity' compares two images"
    return f"row {number}, image_b: {errors[row.image_b]}" if row.image_b in errors else None


def _similarity(row: Row, embeddings: dict[object, NDArray[np.float64]], error: str | None, request: Request) -> Answer:
    similarity = same = None
    if error is None:
        similarity = float(np.clip(embeddings[row.image_a] @ embeddings[row.image_b], -1.0, 1.0))
        same = None if request.threshold is None else similarity >= request.threshold
    return {
        "similarity": similarity,
        "same_person": same,
        "threshold": request.threshold,
        "far": request.far,
        "far_at_most": request.far_at_most,
        "error": error,
    }


def _embedding(row: Row, embeddings: dict[object, NDArray[np.float64]], error: str | None) -> Answer:
    values = None if error is not None else embeddings[row.image_a].astype(np.float32).tolist()
    return {"embedding": values, "error": error}


def _matches(
    row: Row, embeddings: dict[object, NDArray[np.float64]], error: str | None, gallery: Gallery, request: Request
) -> Answer:
    threshold = gallery.threshold if request.threshold is None else request.threshold
    found = None
    if error is None:
        candidates = gallery.search(embeddings[row.image_a], top=request.top)
        found = [
            {"name": name, "similarity": score, "match": None if threshold is None else score >= threshold}
            for name, score in candidates
        ]
    fpir = gallery.fpir if request.threshold is None else None
    return {"matches": found, "threshold": threshold, "fpir": fpir, "error": error}
