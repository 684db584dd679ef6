"""CurricularFace against its formula: the running t, and the classes that are hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facerec.models.heads.curricularface import CurricularFace
from tests.cosines import SCALE, cosines, head_with, logit_at_angle, logits_of, random_case


def by_hand(cosine: np.ndarray, labels: list[int], *, t: float, margin: float) -> np.ndarray:
    logits = np.empty_like(cosine)
    for row, label in enumerate(labels):
        theta = math.acos(cosine[row, label])
        for column, value in enumerate(cosine[row]):
            if column == label:
                value = math.cos(theta + margin) if theta < math.pi - margin else value - margin * math.sin(margin)
            elif value > math.cos(theta + margin):
                value = value * (t + value)
            logits[row, column] = SCALE * value
    return logits


def test_logits_are_those_of_the_formula_batch_after_batch() -> None:
    t, t_alpha, margin = 0.0, 0.2, 0.5
    head = None
    for seed in range(3):
        embeddings, weight, labels = random_case(seed=seed)
        if head is None:
            head, centres = head_with(CurricularFace, weight, margin=margin, t_alpha=t_alpha), weight
        cosine = cosines(embeddings, centres)
        t = t_alpha * float(np.mean([cosine[row, label] for row, label in enumerate(labels)])) + (1 - t_alpha) * t
        np.testing.assert_allclose(
            logits_of(head, embeddings, labels), by_hand(cosine, labels, t=t, margin=margin), atol=1e-9
        )
        assert float(head.t) == pytest.approx(t, abs=1e-12)


def test_evaluation_leaves_t_as_it_is() -> None:
    embeddings, weight, labels = random_case()
    head = head_with(CurricularFace, weight).eval()
    head.t.fill_(0.3)
    np.testing.assert_allclose(
        logits_of(head, embeddings, labels), by_hand(cosines(embeddings, weight), labels, t=0.3, margin=0.5), atol=1e-9
    )
    assert float(head.t) == pytest.approx(0.3)


def test_hard_classes_weigh_more_as_t_rises_and_easy_ones_stay() -> None:
    weight = np.array([[1.0, 0.0], [math.cos(0.9), math.sin(0.9)], [-1.0, 0.1]])
    embedding = np.array([[math.cos(0.4), math.sin(0.4)]])
    logits = []
    for t in (0.0, 0.3, 0.9):
        head = head_with(CurricularFace, weight).eval()
        head.t.fill_(t)
        logits.append(logits_of(head, embedding, [0])[0])
    assert logits[0][1] < logits[1][1] < logits[2][1]
    assert logits[0][2] == logits[1][2] == logits[2][2]


def test_gradient_of_a_hard_class_is_that_of_its_square() -> None:
    weight = np.array([[1.0, 0.0], [math.cos(0.9), math.sin(0.9)]])
    head = head_with(CurricularFace, weight).eval()
    head.t.fill_(0.3)
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    embedding = torch.stack([torch.cos(theta), torch.sin(theta)])[None]
    (gradient,) = torch.autograd.grad(head(embedding, torch.tensor([0]))[0, 1], theta)
    # d s c (t + c) / dθ with c = cos(0.9 - θ)
    expected = SCALE * (0.3 + 2.0 * math.cos(0.5)) * math.sin(0.5)
    assert float(gradient) == pytest.approx(expected, rel=1e-9)


def test_past_pi_the_logit_goes_on_falling() -> None:
    logits = [logit_at_angle(CurricularFace, math.pi - step) for step in (0.45, 0.3, 0.15)]
    assert (np.diff(logits) < 0).all()
