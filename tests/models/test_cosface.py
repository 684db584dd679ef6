"""CosFace against the formula in plain numpy, and its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from facerec.models.heads.cosface import CosFace


def head_with(weight: np.ndarray, margin: float) -> CosFace:
    head = CosFace(embedding_size=weight.shape[1], num_classes=weight.shape[0], scale=30.0, margin=margin).double()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    return head


@pytest.mark.parametrize("margin", [0.0, 0.35, 0.4, 1.0])
def test_logits_are_those_of_the_formula(margin: float) -> None:
    rng = np.random.default_rng(0)
    embeddings, weight = rng.normal(size=(20, 3)), rng.normal(size=(6, 3))
    labels = [int(label) for label in rng.integers(0, 6, size=20)]
    expected = np.empty((20, 6))
    for i, embedding in enumerate(embeddings):
        for j, centre in enumerate(weight):
            cosine = float(embedding @ centre) / math.sqrt(float(embedding @ embedding) * float(centre @ centre))
            expected[i, j] = 30.0 * (cosine - margin if j == labels[i] else cosine)
    logits = head_with(weight, margin)(torch.from_numpy(embeddings), torch.tensor(labels))
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-10)


def test_gradient_is_the_derivative_of_the_logits() -> None:
    rng = np.random.default_rng(1)
    head = head_with(rng.normal(size=(5, 4)), 0.4)
    embeddings = torch.from_numpy(rng.normal(size=(6, 4))).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])

    def logits(embeddings: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, labels))

    assert gradcheck(logits, (embeddings, head.weight))
