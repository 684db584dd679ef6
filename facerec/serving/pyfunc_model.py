"""The predictor as MLflow loads and serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from facerec.errors import FacerecError
from facerec.serving.folder import check_model_folder
from facerec.serving.refusal import refuse
from facerec.serving.request import parse_request
from facerec.serving.service import Row, Service

__all__ = ["FacePredictor"]


class FacePredictor(PythonModel):
    """Compares, embeds or searches aligned face pictures; see `facerec.serving.signature` for input and output."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check every file of the model, then load it onto a GPU where one is, else the CPU.

        Raises:
            CheckpointError: a file was changed, is missing, or does not belong to the model; the message names it.
        """
        from facerec.serving.guard import guard_server
        from facerec.serving.loading import load_service
        from facerec.serving.threads import limit_threads

        folder = Path(context.artifacts["predictor"])
        check_model_folder(folder)
        if guard_server():
            limit_threads()
        self._service: Service = load_service(folder)

    # MLflow declares no types, and so None as the result.
    def predict(  # pyrefly: ignore [bad-override]
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each row.

        Raises:
            Refusal: the request as a whole cannot be answered; one sentence, with status 400.
        """
        try:
            request = parse_request(params or {}, self._service.spec)
            return self._service.answer(_rows(model_input), request)
        except FacerecError as error:
            raise refuse(str(error)) from error


def _rows(table: pd.DataFrame) -> list[Row]:
    if "image_a" not in table:
        raise refuse("the input needs a column image_a")
    first = table["image_a"].tolist()
    second = table["image_b"].tolist() if "image_b" in table else [None] * len(first)
    return [Row(image_a=_text(a), image_b=_text(b)) for a, b in zip(first, second, strict=True)]


def _text(value: object) -> str | None:
    # Missing texts arrive as None, NaN or pandas' NA.
    return value if isinstance(value, str) else None
