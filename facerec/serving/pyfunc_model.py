"""The predictor as MLflow loads and serves it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from facerec.errors import FacerecError
from facerec.serving.folder import check_model_folder
from facerec.serving.images import LIMITS
from facerec.serving.refusal import Refusal, refuse
from facerec.serving.request import parse_request
from facerec.serving.service import Row, Service

__all__ = ["FacePredictor"]

_log = logging.getLogger(__name__)


class FacePredictor(PythonModel):
    """Compares, embeds or searches aligned face pictures; see `facerec.serving.signature` for input and output."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check every file of the model, then load it onto a GPU where one is, else the CPU.

        Raises:
            CheckpointError: a file was changed, is missing, or does not belong to the model; the message names it.
            UsageError: this is a server whose requests cannot be limited.
        """
        from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

        from facerec.serving.guard import guard_server
        from facerec.serving.loading import load_service
        from facerec.serving.threads import limit_threads

        folder = Path(context.artifacts["predictor"])
        check_model_folder(folder)
        limits = LIMITS
        if guard_server():
            limit_threads()
            # After all of its time MLflow answers, without a word on the rows that were ready, and the work goes on.
            limits = dataclasses.replace(LIMITS, seconds=MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get() / 2)
        self._service: Service = load_service(folder, limits=limits)

    # MLflow declares no types, and so None as the result.
    def predict(  # pyrefly: ignore [bad-override]
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each row.

        Raises:
            Refusal: the request as a whole cannot be answered; one sentence, with status 400, or 500 where the fault is
                not the request's. The log has the kind of such a fault, and nothing of the request.
        """
        try:
            request = parse_request(params or {}, self._service.spec)
            return self._service.answer(_rows(model_input), request)
        except Refusal:
            raise
        except FacerecError as error:
            raise refuse(str(error)) from error
        except Exception as error:  # Runtimes and drivers fail in every way, and MLflow would blame the request.
            _log.error("a request failed: %s", type(error).__name__)
            raise refuse("the server failed at this request; its log has the kind of error", status=500) from error


def _rows(table: pd.DataFrame) -> list[Row]:
    if "image_a" not in table:
        raise refuse("the input needs a column image_a")
    first = table["image_a"].tolist()
    second = table["image_b"].tolist() if "image_b" in table else [None] * len(first)
    return [Row(image_a=_text(a), image_b=_text(b)) for a, b in zip(first, second, strict=True)]


def _text(value: object) -> str | None:
    # Missing texts arrive as None, NaN or pandas' NA.
    return value if isinstance(value, str) else None
