"""MagFace against its formula: the margin and the regulariser by the norm, and the gradient through it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from facerec.models.classification import ClassificationLoss
from facerec.models.heads.magface import MagFace
from tests.cosines import SCALE, cosines, head_with, logit_at_angle, logits_of, random_case


def case() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Embeddings whose norms lie below, within and above [10, 110]."""
    embeddings, weight, labels = random_case()
    norms = np.linspace(2.0, 150.0, len(embeddings))
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True) * norms[:, None], weight, labels


def margin_by_hand(norm: float) -> float:
    return 0.45 + (0.8 - 0.45) * (min(max(norm, 10.0), 110.0) - 10.0) / 100.0


@pytest.mark.parametrize("easy", [True, False])
def test_logits_are_those_of_the_formula(easy: bool) -> None:
    embeddings, weight, labels = case()
    expected = cosines(embeddings, weight)
    for row, label in enumerate(labels):
        margin, cosine = margin_by_hand(float(np.linalg.norm(embeddings[row]))), expected[row, label]
        theta = math.acos(cosine)
        if (easy and cosine > 0) or (not easy and theta < math.pi - margin):
            expected[row, label] = math.cos(theta + margin)
        elif not easy:
            expected[row, label] = cosine - margin * math.sin(margin)
    logits = logits_of(head_with(MagFace, weight, easy_margin=easy), embeddings, labels)
    np.testing.assert_allclose(logits, SCALE * expected, atol=1e-9)


def test_loss_has_the_regulariser_of_the_norms() -> None:
    embeddings, weight, labels = case()
    head = head_with(MagFace, weight)
    tensors = torch.from_numpy(embeddings), torch.tensor(labels)
    norms = np.clip(np.linalg.norm(embeddings, axis=1), 10.0, 110.0)
    expected = 35.0 * float(np.mean(norms / 110.0**2 + 1.0 / norms))
    loss = ClassificationLoss(head)(*tensors).loss - F.cross_entropy(head(*tensors), tensors[1])
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)


def test_regulariser_lengthens_embeddings_within_the_range_and_leaves_others() -> None:
    head = head_with(MagFace, np.eye(3))
    norms = torch.tensor([5.0, 10.5, 60.0, 109.0, 130.0], dtype=torch.float64, requires_grad=True)
    head.regulariser(norms).backward()
    assert (norms.grad[1:4] < 0).all()
    assert norms.grad[[0, 4]].tolist() == [0.0, 0.0]


def test_longer_embeddings_get_a_larger_margin_and_so_a_smaller_logit() -> None:
    logits = [logit_at_angle(MagFace, 0.8, norm=norm) for norm in (10.0, 40.0, 80.0, 110.0)]
    assert (np.diff(logits) < 0).all()
    assert logit_at_angle(MagFace, 0.8, norm=500.0) == pytest.approx(logits[-1], abs=1e-12)


def test_past_pi_the_logit_without_the_easy_margin_goes_on_falling() -> None:
    angles = [math.pi - 0.4, math.pi - 0.25, math.pi - 0.1]
    logits = [logit_at_angle(MagFace, angle, norm=5.0, easy_margin=False) for angle in angles]
    assert (np.diff(logits) < 0).all()


def test_gradient_passes_through_the_norm() -> None:
    embedding = torch.tensor([[40.0 * math.cos(0.8), 40.0 * math.sin(0.8)]], dtype=torch.float64, requires_grad=True)
    head = head_with(MagFace, np.array([[2.0, 0.0], [0.0, 5.0]]))
    head(embedding, torch.tensor([0]))[0, 0].backward()
    along_the_norm = float((embedding.grad * embedding.detach()).sum()) / 40.0
    # d s cos(θ + m(a)) / da = -s sin(θ + m(a)) m'(a)
    expected = -SCALE * math.sin(0.8 + margin_by_hand(40.0)) * 0.35 / 100.0
    assert along_the_norm == pytest.approx(expected, rel=1e-9)
