"""The error that a served model gives for a bad request."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

__all__ = ["Refusal", "refuse"]


class Refusal(MlflowException):
    """A bad request, answered with status 400 and one sentence.

    MLflow writes the request itself, pictures and all, before the message of an error that a model raises; the message
    of this one stays as it is.
    """

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, value: str) -> None:
        if not hasattr(self, "_sentence"):
            self._sentence = value


def refuse(sentence: str) -> Refusal:
    """A refusal with one sentence."""
    return Refusal(" ".join(sentence.split()), error_code=INVALID_PARAMETER_VALUE)
