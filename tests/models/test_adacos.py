"""AdaCos against its formula: the first scale, and the one that each batch sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facerec.errors import ConfigError
from facerec.models.heads.adacos import AdaCos
from tests.cosines import cosines, head_with, logits_of, random_case


def next_scale(cosine: np.ndarray, labels: list[int], scale: float) -> float:
    total, angles = 0.0, []
    for row, label in enumerate(labels):
        angles.append(math.acos(cosine[row, label]))
        total += sum(math.exp(scale * value) for column, value in enumerate(cosine[row]) if column != label)
    median = sorted(angles)[(len(angles) - 1) // 2]  # torch takes the lower of two
    return math.log(total / len(labels)) / math.cos(min(math.pi / 4, median))


def test_scale_and_logits_are_those_of_the_formula_batch_after_batch() -> None:
    weight = random_case(classes=50, size=8)[1]
    head = head_with(AdaCos, weight)
    scale = math.sqrt(2.0) * math.log(49)
    assert float(head.adaptive_scale) == pytest.approx(scale, rel=1e-6)
    for seed in range(3):
        embeddings, _, labels = random_case(31, classes=50, size=8, seed=seed)
        cosine = cosines(embeddings, weight)
        scale = next_scale(cosine, labels, scale)
        np.testing.assert_allclose(logits_of(head, embeddings, labels), scale * cosine, rtol=1e-6)
        assert float(head.adaptive_scale) == pytest.approx(scale, rel=1e-6)


def test_evaluation_leaves_the_scale_as_it_is() -> None:
    embeddings, weight, labels = random_case(classes=20)
    head = head_with(AdaCos, weight).eval()
    first = float(head.adaptive_scale)
    logits = logits_of(head, embeddings, labels)
    np.testing.assert_allclose(logits, first * cosines(embeddings, weight), rtol=1e-6)
    assert float(head.adaptive_scale) == first


def test_scale_stays_between_one_and_the_configured_one() -> None:
    embeddings, weight, labels = random_case(classes=20)
    assert float(head_with(AdaCos, weight, scale=2.5).adaptive_scale) == 2.5
    low = head_with(AdaCos, weight, scale=2.5)
    logits_of(low, embeddings, labels)
    assert 1.0 <= float(low.adaptive_scale) <= 2.5
    far_apart = head_with(AdaCos, np.array([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]]))
    logits_of(far_apart, np.array([[1.0, 0.0]]), [0])
    assert float(far_apart.adaptive_scale) == 1.0


def test_no_gradient_passes_through_the_scale() -> None:
    embeddings, weight, labels = random_case(classes=20)
    head = head_with(AdaCos, weight)
    leaf = torch.from_numpy(embeddings).requires_grad_()
    head(leaf, torch.tensor(labels)).sum().backward()
    fixed = torch.from_numpy(embeddings).requires_grad_()
    normalised = torch.nn.functional.normalize
    (float(head.adaptive_scale) * normalised(fixed) @ normalised(torch.from_numpy(weight)).T).sum().backward()
    torch.testing.assert_close(leaf.grad, fixed.grad, rtol=1e-6, atol=1e-9)


def test_two_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 classes, not 2"):
        AdaCos(embedding_size=2, num_classes=2, scale=64.0)
