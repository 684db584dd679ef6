"""ArcFace against the formula in plain numpy, its gradient, and its behaviour past π - m."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from facerec.errors import ConfigError
from facerec.models.heads.arcface import ArcFace

_SCALE = 64.0


def head_with(weight: np.ndarray, **settings: object) -> ArcFace:
    head = ArcFace(embedding_size=weight.shape[1], num_classes=weight.shape[0], scale=_SCALE, **settings).double()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    return head


def at_angle(theta: float) -> tuple[torch.Tensor, np.ndarray]:
    """An embedding at the angle ``theta`` from the first of two class centres in the plane."""
    return torch.tensor([[3.0 * math.cos(theta), 3.0 * math.sin(theta)]]).double(), np.array([[2.0, 0.0], [0.0, 5.0]])


def by_hand(
    embeddings: np.ndarray, weight: np.ndarray, labels: list[int], *, margin: float, exact: bool, easy: bool
) -> np.ndarray:
    logits = np.empty((len(embeddings), len(weight)))
    for i, embedding in enumerate(embeddings):
        for j, centre in enumerate(weight):
            cosine = float(embedding @ centre) / math.sqrt(float(embedding @ embedding) * float(centre @ centre))
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            value = cosine
            if j == labels[i]:
                if not exact or (easy and cosine > 0) or (not easy and theta < math.pi - margin):
                    value = math.cos(theta + margin)
                elif not easy:
                    value = cosine - margin * math.sin(math.pi - margin)
            logits[i, j] = _SCALE * value
    return logits


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.2])
@pytest.mark.parametrize(("gradient", "easy"), [("straight_through", False), ("exact", False), ("exact", True)])
def test_logits_are_those_of_the_formula(margin: float, gradient: str, easy: bool) -> None:
    rng = np.random.default_rng(0)
    embeddings, weight = rng.normal(size=(40, 3)), rng.normal(size=(6, 3))
    labels = [int(label) for label in rng.integers(0, 6, size=40)]
    head = head_with(weight, margin=margin, gradient=gradient, easy_margin=easy)
    logits = head(torch.from_numpy(embeddings), torch.tensor(labels))
    expected = by_hand(embeddings, weight, labels, margin=margin, exact=gradient == "exact", easy=easy)
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("easy", [False, True])
def test_exact_gradient_is_the_derivative_of_the_logits(easy: bool) -> None:
    rng = np.random.default_rng(1)
    head = head_with(rng.normal(size=(5, 4)), gradient="exact", easy_margin=easy)
    embeddings = torch.from_numpy(rng.normal(size=(6, 4))).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])

    def logits(embeddings: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, labels))

    assert gradcheck(logits, (embeddings, head.weight))


@pytest.mark.parametrize("theta", [0.0, 0.4, 1.5, 2.8, math.pi])
def test_straight_through_gradient_is_that_of_the_scaled_cosine_everywhere(theta: float) -> None:
    embedding, weight = at_angle(theta)
    head = head_with(weight, gradient="straight_through")
    embedding.requires_grad_()
    (gradient,) = torch.autograd.grad(head(embedding, torch.tensor([0]))[0, 0], embedding)
    cosine = torch.nn.functional.cosine_similarity(embedding, head.weight[:1].detach())
    (expected,) = torch.autograd.grad(_SCALE * cosine.sum(), embedding)
    torch.testing.assert_close(gradient, expected)


def test_exact_and_straight_through_agree_in_value_and_differ_in_gradient() -> None:
    embedding, weight = at_angle(1.0)
    values, gradients = [], []
    for variant in ("exact", "straight_through"):
        leaf = embedding.clone().requires_grad_()
        logit = head_with(weight, gradient=variant)(leaf, torch.tensor([0]))[0, 0]
        (gradient,) = torch.autograd.grad(logit, leaf)
        values.append(float(logit.detach()))
        gradients.append(gradient)
    assert values[0] == pytest.approx(values[1], abs=1e-10)
    # d cos(θ + m) / d cos θ = sin(θ + m) / sin θ
    torch.testing.assert_close(gradients[0], gradients[1] * math.sin(1.5) / math.sin(1.0))


def test_past_pi_the_exact_logit_goes_on_falling_and_the_other_rises() -> None:
    margin = 0.5
    angles = [math.pi - margin + step for step in (0.05, 0.2, 0.35, 0.5)]

    def logits(gradient: str) -> np.ndarray:
        values = []
        for theta in angles:
            embedding, weight = at_angle(theta)
            values.append(float(head_with(weight, gradient=gradient)(embedding, torch.tensor([0]))[0, 0].detach()))
        return np.array(values)

    assert (np.diff(logits("exact")) < 0).all()
    assert (np.diff(logits("straight_through")) > 0).all()


def test_default_is_the_variant_of_the_published_tables() -> None:
    assert ArcFace(embedding_size=2, num_classes=2, scale=_SCALE).gradient == "straight_through"


def test_unknown_gradient_and_an_easy_margin_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="exact, straight_through"):
        ArcFace(embedding_size=2, num_classes=2, scale=_SCALE, gradient="true")
    with pytest.raises(ConfigError, match="belongs to the exact gradient"):
        ArcFace(embedding_size=2, num_classes=2, scale=_SCALE, easy_margin=True)
