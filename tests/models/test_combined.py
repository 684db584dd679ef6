"""The combined margin against its formula, its special cases, and past π."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facerec.errors import ConfigError
from facerec.models.heads.arcface import ArcFace
from facerec.models.heads.combined import Combined
from facerec.models.heads.cosface import CosFace
from tests.cosines import SCALE, cosines, head_with, logit_at_angle, logits_of, random_case


@pytest.mark.parametrize(("m1", "m2", "m3"), [(1.0, 0.3, 0.2), (0.9, 0.4, 0.15), (1.0, 0.5, 0.0), (1.35, 0.0, 0.0)])
@pytest.mark.parametrize("gradient", ["straight_through", "exact"])
def test_logits_are_those_of_the_formula(m1: float, m2: float, m3: float, gradient: str) -> None:
    embeddings, weight, labels = random_case()
    expected = cosines(embeddings, weight)
    for row, label in enumerate(labels):
        angle = m1 * math.acos(expected[row, label]) + m2
        value = math.cos(angle)
        if gradient == "exact" and angle > math.pi:
            value = -2.0 - value
        expected[row, label] = value - m3
    head = head_with(Combined, weight, m1=m1, m2=m2, m3=m3, gradient=gradient)
    np.testing.assert_allclose(logits_of(head, embeddings, labels), SCALE * expected, atol=1e-9)


def test_special_cases_are_arcface_and_cosface() -> None:
    embeddings, weight, labels = random_case()
    arcface = logits_of(head_with(ArcFace, weight, margin=0.5), embeddings, labels)
    cosface = logits_of(head_with(CosFace, weight, margin=0.4), embeddings, labels)
    as_arcface = head_with(Combined, weight, m1=1.0, m2=0.5, m3=0.0)
    as_cosface = head_with(Combined, weight, m1=1.0, m2=0.0, m3=0.4, gradient="exact")
    np.testing.assert_allclose(logits_of(as_arcface, embeddings, labels), arcface, atol=1e-12)
    np.testing.assert_allclose(logits_of(as_cosface, embeddings, labels), cosface, atol=1e-12)


def test_straight_through_has_the_gradient_of_the_scaled_cosine() -> None:
    embeddings, weight, labels = random_case()
    gradients = []
    for settings in ({}, {"m2": 0.0, "m3": 0.0}):
        leaf = torch.from_numpy(embeddings).requires_grad_()
        head_with(Combined, weight, **settings)(leaf, torch.tensor(labels)).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_past_pi_the_exact_logit_goes_on_falling_and_the_other_rises() -> None:
    angles = [math.pi - 0.25, math.pi - 0.15, math.pi - 0.05]
    exact = [logit_at_angle(Combined, angle, gradient="exact") for angle in angles]
    other = [logit_at_angle(Combined, angle) for angle in angles]
    assert (np.diff(exact) < 0).all()
    assert (np.diff(other) > 0).all()


def test_unknown_gradient_is_refused() -> None:
    with pytest.raises(ConfigError, match="exact, straight_through"):
        Combined(embedding_size=2, num_classes=2, scale=SCALE, gradient="true")
