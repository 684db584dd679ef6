"""What is known of a model before it is packed: how well it verifies, its thresholds, and what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from facerec import __version__
from facerec.data.pairs import PairSet, read_pairs
from facerec.evaluation.result import PairResult
from facerec.evaluation.suites import evaluate_configured, find_pair_sets, locate_pair_file
from facerec.models.weights import LoadedBackbone
from facerec.serving.calibrate import calibrate
from facerec.serving.package import spec_of
from facerec.serving.spec import PredictorSpec
from facerec.serving.weights import weights_sha256

__all__ = ["Appraisal", "appraise", "verify"]


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """A model, measured."""

    weights_sha256: str
    """Which model."""
    pair_sets: tuple[PairSet, ...]
    results: tuple[PairResult, ...]
    """One for each pair set; the first one gives the thresholds."""
    spec: PredictorSpec
    facts: dict[str, str]
    """For the model card."""


def appraise(
    loaded: LoadedBackbone,
    *,
    bins: Sequence[str] = (),
    runtime: str = "torch",
    known: Sequence[PairResult] = (),
) -> Appraisal:
    """Verify a model on ``bins``, or on the pair sets of its configuration, and describe it.

    ``known`` are results of this very model; where they are those of the pair sets, nothing is verified again.

    Raises:
        FacerecError: a pair set is missing or broken.
    """
    data_root = loaded.config.data.root
    if bins:
        pair_sets = [read_pairs(locate_pair_file(file, data_root=data_root)) for file in bins]
    else:
        pair_sets = find_pair_sets(loaded.config)
    results = list(known) if _are_of(known, pair_sets) else verify(loaded, pair_sets)
    return Appraisal(
        weights_sha256=weights_sha256(loaded.backbone),
        pair_sets=tuple(pair_sets),
        results=tuple(results),
        spec=spec_of(loaded.config, runtime=runtime, calibration=calibrate(results[0]) if results else None),
        facts=_facts(loaded),
    )


def _are_of(results: Sequence[PairResult], pair_sets: Sequence[PairSet]) -> bool:
    return [(one.name, one.sha256) for one in results] == [(one.name, one.sha256) for one in pair_sets]


def verify(loaded: LoadedBackbone, pair_sets: Sequence[PairSet]) -> list[PairResult]:
    """Verify a model as its configuration says; without pair sets there are no results."""
    if not pair_sets:
        return []
    device = next(loaded.backbone.parameters()).device
    return evaluate_configured(loaded.backbone, pair_sets, config=loaded.config, device=device)


def _facts(loaded: LoadedBackbone) -> dict[str, str]:
    config = loaded.config
    facts = {"architecture": f"{config.model.backbone}, {config.model.embedding_size} dimensions"}
    if loaded.num_classes is not None:
        facts["data"] = f"{config.data.name}, {loaded.num_classes} identities"
        facts["head"] = config.head.type
    facts["mirrored pictures"] = "their embeddings are added" if config.eval.flip else "not used"
    facts["made by"] = f"facerec {__version__}, torch {torch.__version__}"
    return facts
