"""Sub-centre ArcFace against its formula: the nearest centre of every class counts, and alone gets a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facerec.errors import ConfigError
from facerec.models.heads.arcface import ArcFace
from facerec.models.heads.subcenter_arcface import SubcenterArcFace
from tests.cosines import SCALE, cosines, head_with, logits_of, random_case


@pytest.mark.parametrize("gradient", ["exact", "straight_through"])
def test_logits_are_those_of_the_formula(gradient: str) -> None:
    embeddings, _, labels = random_case()
    weight = np.random.default_rng(1).normal(size=(6, 4, 3))
    expected = np.max([cosines(embeddings, weight[:, k]) for k in range(4)], axis=0)
    for row, label in enumerate(labels):
        cosine = expected[row, label]
        theta = math.acos(cosine)
        if gradient == "straight_through" or theta < math.pi - 0.5:
            expected[row, label] = math.cos(theta + 0.5)
        else:
            expected[row, label] = cosine - 0.5 * math.sin(0.5)
    head = head_with(SubcenterArcFace, weight, sub_centres=4, gradient=gradient)
    np.testing.assert_allclose(logits_of(head, embeddings, labels), SCALE * expected, atol=1e-9)


def test_one_centre_is_arcface() -> None:
    embeddings, weight, labels = random_case()
    one = head_with(SubcenterArcFace, weight, sub_centres=1)
    arcface = head_with(ArcFace, weight, gradient="exact")
    np.testing.assert_allclose(
        logits_of(one, embeddings, labels), logits_of(arcface, embeddings, labels), rtol=0, atol=1e-12
    )


def test_only_the_nearest_centre_of_a_class_gets_a_gradient() -> None:
    weight = np.random.default_rng(1).normal(size=(5, 3, 4))
    embedding = np.random.default_rng(2).normal(size=(1, 4))
    head = head_with(SubcenterArcFace, weight)
    head(torch.from_numpy(embedding), torch.tensor([2])).sum().backward()
    nearest = np.argmax([cosines(embedding, weight[:, k])[0] for k in range(3)], axis=0)
    touched = head.weight.grad.abs().sum(dim=2) > 0
    assert torch.equal(touched, torch.nn.functional.one_hot(torch.from_numpy(nearest), 3).bool())


def test_no_centre_and_an_unknown_gradient_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"head\.sub_centres: must be 1 or more, not 0"):
        SubcenterArcFace(embedding_size=2, num_classes=2, scale=SCALE, sub_centres=0)
    with pytest.raises(ConfigError, match="exact, straight_through"):
        SubcenterArcFace(embedding_size=2, num_classes=2, scale=SCALE, gradient="true")
