"""SphereFace against ψ by its definition in pieces, and monotone over all angles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facerec.models.heads.sphereface import SphereFace
from tests.cosines import SCALE, cosines, head_with, logit_at_angle, logits_of, random_case


def psi(theta: float, margin: float) -> float:
    """ψ on the piece [kπ/m, (k+1)π/m] that holds θ."""
    for k in range(100):
        if theta <= (k + 1) * math.pi / margin:
            return (-1) ** k * math.cos(margin * theta) - 2 * k
    raise AssertionError


@pytest.mark.parametrize("margin", [1.0, 1.35, 2.0, 4.0])
def test_logits_are_those_of_the_formula(margin: float) -> None:
    embeddings, weight, labels = random_case()
    expected = cosines(embeddings, weight)
    for row, label in enumerate(labels):
        expected[row, label] = psi(math.acos(expected[row, label]), margin)
    logits = logits_of(head_with(SphereFace, weight, margin=margin), embeddings, labels)
    np.testing.assert_allclose(logits, SCALE * expected, atol=1e-9)


@pytest.mark.parametrize("margin", [1.35, 4.0])
def test_logit_falls_with_the_angle_also_where_the_multiple_passes_pi(margin: float) -> None:
    angles = np.linspace(0.01, math.pi - 0.01, 60)
    logits = [logit_at_angle(SphereFace, float(angle), margin=margin) for angle in angles]
    assert (np.diff(logits) < 0).all()
    assert logits[-1] < -1.0


def test_default_is_the_factor_that_trains_without_annealing() -> None:
    assert SphereFace(embedding_size=2, num_classes=2, scale=SCALE).margin == 1.35
