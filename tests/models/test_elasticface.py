"""ElasticFace: the drawn margins, their order with `plus`, and that they can be drawn again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facerec.models.heads.elasticface import ElasticArcFace, ElasticCosFace
from tests.cosines import SCALE, cosines, head_with, logit_at_angle, logits_of, random_case

both = pytest.mark.parametrize("kind", [ElasticArcFace, ElasticCosFace])


def margins_of(head: torch.nn.Module, logits: np.ndarray, cosine: np.ndarray, labels: list[int]) -> np.ndarray:
    """The margins that explain the logits at the labels."""
    rows = np.arange(len(labels))
    value, plain = logits[rows, labels] / SCALE, cosine[rows, labels]
    return plain - value if isinstance(head, ElasticCosFace) else np.arccos(value) - np.arccos(plain)


def near_case(count: int = 40) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Embeddings within π / 2 of their centres, so that no margin goes beyond π, where the cosine hides it."""
    embeddings, weight, labels = random_case(count)
    sides = np.sign(np.sum(embeddings * weight[labels], axis=1, keepdims=True))
    return embeddings * sides, weight, labels


def case(kind: type, count: int = 4000, **settings: object) -> tuple[np.ndarray, np.ndarray, torch.nn.Module]:
    embeddings, weight, labels = near_case(count)
    torch.manual_seed(0)
    head = head_with(kind, weight, **settings)
    cosine = cosines(embeddings, weight)
    logits = logits_of(head, embeddings, labels)
    others = np.ones_like(cosine, dtype=bool)
    others[np.arange(count), labels] = False
    np.testing.assert_allclose(logits[others], SCALE * cosine[others], atol=1e-9)
    return margins_of(head, logits, cosine, labels), cosine[np.arange(count), labels], head


@both
def test_margins_are_normal_around_the_margin(kind: type) -> None:
    margins, _, head = case(kind, margin_std=0.05)
    assert abs(float(margins.mean()) - head.margin) < 4 * 0.05 / math.sqrt(4000)
    assert abs(float(margins.std()) - 0.05) < 0.003
    within = [float(np.mean(np.abs(margins - head.margin) < k * 0.05)) for k in (1, 2)]
    assert within == pytest.approx([0.683, 0.954], abs=0.03)


@both
def test_plus_gives_the_larger_margin_to_the_farther_picture(kind: type) -> None:
    margins, cosine, _ = case(kind, count=200, plus=True)
    assert (np.diff(margins[np.argsort(-cosine)]) >= -1e-9).all()
    plain, _, _ = case(kind, count=200)
    np.testing.assert_allclose(np.sort(margins), np.sort(plain), atol=1e-9)
    assert (np.diff(plain[np.argsort(-cosine)]) < 0).any()


@both
def test_every_batch_draws_anew_and_a_restored_head_draws_the_same(kind: type) -> None:
    embeddings, weight, labels = random_case()
    head = head_with(kind, weight)
    first = logits_of(head, embeddings, labels)
    saved = {name: value.clone() for name, value in head.state_dict().items()}
    second = logits_of(head, embeddings, labels)
    assert not np.array_equal(first, second)
    torch.manual_seed(123)
    other = head_with(kind, np.zeros_like(weight))
    other.load_state_dict(saved)
    np.testing.assert_array_equal(logits_of(other, embeddings, labels), second)


@both
def test_draws_depend_on_the_seed_of_the_head(kind: type) -> None:
    embeddings, weight, labels = random_case()
    logits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        logits.append(logits_of(head_with(kind, weight), embeddings, labels))
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])


@both
def test_evaluation_takes_the_mean_margin_and_counts_nothing(kind: type) -> None:
    embeddings, weight, labels = near_case()
    head = head_with(kind, weight).eval()
    margins = margins_of(head, logits_of(head, embeddings, labels), cosines(embeddings, weight), labels)
    np.testing.assert_allclose(margins, head.margin, atol=1e-7)
    assert int(head.draws) == 0


def test_past_pi_the_logit_rises_as_in_the_paper_whose_formula_has_no_fallback() -> None:
    logits = [logit_at_angle(ElasticArcFace, math.pi - step, margin_std=0.0) for step in (0.4, 0.2, 0.05)]
    np.testing.assert_allclose(logits, [math.cos(math.pi - step + 0.5) for step in (0.4, 0.2, 0.05)], atol=1e-9)
    assert (np.diff(logits) > 0).all()
