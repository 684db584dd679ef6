"""What a served predictor takes and gives, as MLflow describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

__all__ = ["predictor_signature"]


def predictor_signature() -> ModelSignature:
    """The signature.

    Columns are texts: ``image_a`` (required) and ``image_b``, base64 of a JPEG, PNG or WebP. Which fields an answer
    has depends on the mode: a similarity and a decision, an embedding, or the matches of a search; each has ``error``.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    match = Object(
        [
            Property("name", DataType.string),
            Property("similarity", DataType.double),
            Property("match", DataType.boolean, required=False),
        ]
    )
    inputs = Schema(
        [
            ColSpec(DataType.string, name="image_a"),
            ColSpec(DataType.string, name="image_b", required=False),
        ]
    )
    outputs = Schema(
        [
            ColSpec(DataType.double, name="similarity", required=False),
            ColSpec(DataType.boolean, name="same_person", required=False),
            ColSpec(DataType.double, name="threshold", required=False),
            ColSpec(DataType.double, name="far", required=False),
            ColSpec(DataType.double, name="far_at_most", required=False),
            ColSpec(Array(DataType.double), name="embedding", required=False),
            ColSpec(Array(match), name="matches", required=False),
            ColSpec(DataType.double, name="fpir", required=False),
            ColSpec(DataType.string, name="error", required=False),
        ]
    )
    params = ParamSchema(
        [
            ParamSpec("mode", DataType.string, "similarity"),
            ParamSpec("far", DataType.double, None),
            ParamSpec("threshold", DataType.double, None),
            ParamSpec("flip", DataType.boolean, None),
            ParamSpec("on_error", DataType.string, "row"),
            ParamSpec("top", DataType.long, 5),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)
