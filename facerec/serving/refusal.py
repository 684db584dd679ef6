"""The error that a served model gives for a request that it does not answer."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

__all__ = ["Refusal", "refuse"]

_CODES = {500: INTERNAL_ERROR, 503: TEMPORARILY_UNAVAILABLE}


class Refusal(MlflowException):
    """A request that is not answered, with a status and one sentence.

    MLflow writes the request itself, pictures and all, before the message of an error that a model raises; the message
    of this one stays as it is.
    """

    status = 400

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, value: str) -> None:
        if not hasattr(self, "_sentence"):
            self._sentence = value

    def get_http_status_code(self) -> int:
        """The status."""
        return self.status


def refuse(sentence: str, *, status: int = 400) -> Refusal:
    """A refusal with one sentence."""
    refusal = Refusal(" ".join(sentence.split()), error_code=_CODES.get(status, INVALID_PARAMETER_VALUE))
    refusal.status = status
    return refusal
