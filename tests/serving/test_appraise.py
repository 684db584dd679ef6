"""What is known of a model is not found out again, and what is known of another model counts for nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from facerec.models.weights import LoadedBackbone, load_backbone
from facerec.serving import appraise as appraise_module
from facerec.serving.appraise import appraise, verify
from facerec.serving.weights import weights_sha256


@pytest.fixture
def loaded(checkpoint: Path) -> LoadedBackbone:
    return load_backbone(checkpoint)


def test_results_of_the_same_pairs_are_taken(loaded: LoadedBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = appraise(loaded)
    assert [result.name for result in first.results] == ["people"]
    assert first.weights_sha256 == weights_sha256(loaded.backbone)
    monkeypatch.setattr(appraise_module, "verify", None)
    again = appraise(loaded, known=first.results)
    assert (again.results, again.spec) == (first.results, first.spec)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"name": "others"}])
def test_results_of_other_pairs_are_not(loaded: LoadedBackbone, change: dict[str, str]) -> None:
    first = appraise(loaded)
    (wrong,) = (dataclasses.replace(result, accuracy=0.1, **change) for result in first.results)
    assert appraise(loaded, known=[wrong]).results[0].accuracy == first.results[0].accuracy
    assert appraise(loaded, known=[]).results[0].accuracy == verify(loaded, first.pair_sets)[0].accuracy
