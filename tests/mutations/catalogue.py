"""All mutations."""

from __future__ import annotations

from tests.mutations import of_data, of_models, of_serving, of_work
from tests.mutations.mutation import Mutation

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = (
    *of_data.MUTATIONS,
    *of_models.MUTATIONS,
    *of_work.MUTATIONS,
    *of_serving.MUTATIONS,
)
