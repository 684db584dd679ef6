"""AdaFace against the formula in plain numpy: the running statistics, the three regimes of k."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from facerec.models.heads.adaface import AdaFace
from facerec.models.heads.arcface import ArcFace
from facerec.models.heads.cosface import CosFace

_SCALE = 64.0


def head_with(weight: np.ndarray, **settings: float) -> AdaFace:
    head = AdaFace(embedding_size=weight.shape[1], num_classes=weight.shape[0], scale=_SCALE, **settings).double()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    return head


def by_hand(
    embeddings: np.ndarray, weight: np.ndarray, labels: list[int], *, mean: float, std: float, m: float, h: float
) -> np.ndarray:
    logits = np.empty((len(embeddings), len(weight)))
    for i, embedding in enumerate(embeddings):
        z = min(max(math.sqrt(float(embedding @ embedding)), 0.001), 100.0)
        k = min(max(h * (z - mean) / (std + 1e-3), -1.0), 1.0)
        for j, centre in enumerate(weight):
            cosine = float(embedding @ centre) / math.sqrt(float(embedding @ embedding) * float(centre @ centre))
            cosine = min(max(cosine, -1.0 + 1e-3), 1.0 - 1e-3)
            if j == labels[i]:
                theta = min(max(math.acos(cosine) - m * k, 1e-3), math.pi - 1e-3)
                cosine = math.cos(theta) - (m + m * k)
            logits[i, j] = _SCALE * cosine
    return logits


def fixed(head: AdaFace, *, mean: float, std: float) -> AdaFace:
    """In evaluation mode with these statistics."""
    head.batch_mean.fill_(mean)
    head.batch_std.fill_(std)
    return head.eval()


@pytest.mark.parametrize(("margin", "h"), [(0.4, 0.333), (0.0, 0.333), (0.75, 1.0)])
def test_logits_of_two_training_steps_are_those_of_the_formula(margin: float, h: float) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 3))
    head = head_with(weight, margin=margin, h=h, t_alpha=0.3).train()
    mean, std = 20.0, 100.0
    for _ in range(2):
        embeddings = rng.normal(size=(30, 3)) * rng.uniform(1e-4, 90.0, size=(30, 1))
        labels = [int(label) for label in rng.integers(0, 6, size=30)]
        norms = np.clip(np.linalg.norm(embeddings, axis=1), 0.001, 100.0)
        mean = 0.3 * norms.mean() + 0.7 * mean
        std = 0.3 * norms.std(ddof=1) + 0.7 * std
        logits = head(torch.from_numpy(embeddings), torch.tensor(labels))
        expected = by_hand(embeddings, weight, labels, mean=mean, std=std, m=margin, h=h)
        np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-9)
        assert float(head.batch_mean) == pytest.approx(mean, rel=1e-12)
        assert float(head.batch_std) == pytest.approx(std, rel=1e-12)


def test_statistics_start_at_the_published_values_and_are_saved() -> None:
    head = AdaFace(embedding_size=4, num_classes=3, scale=_SCALE)
    assert {name: float(value) for name, value in head.named_buffers()} == {"batch_mean": 20.0, "batch_std": 100.0}
    head(torch.full((5, 4), 8.0), torch.tensor([0, 1, 2, 0, 1]))
    saved = head.state_dict()
    assert float(saved["batch_mean"]) == pytest.approx(0.99 * 20.0 + 0.01 * 16.0)
    assert float(saved["batch_std"]) == pytest.approx(99.0)


def test_evaluation_leaves_the_statistics_alone() -> None:
    head = AdaFace(embedding_size=4, num_classes=3, scale=_SCALE).eval()
    head(torch.ones(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert (float(head.batch_mean), float(head.batch_std)) == (20.0, 100.0)


def test_batch_of_one_keeps_the_deviation() -> None:
    head = AdaFace(embedding_size=4, num_classes=3, scale=_SCALE)
    logits = head(torch.ones(1, 4), torch.tensor([0]))
    assert logits.isfinite().all()
    assert float(head.batch_std) == 100.0
    assert float(head.batch_mean) == pytest.approx(0.99 * 20.0 + 0.01 * 2.0)


def planar(theta: float, norm: float) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    embedding = torch.tensor([[norm * math.cos(theta), norm * math.sin(theta)]], dtype=torch.float64)
    return embedding, np.array([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0])


@pytest.mark.parametrize("theta", [0.3, 1.0, 2.0])
def test_poor_pictures_get_the_angular_margin_of_arcface(theta: float) -> None:
    embedding, weight, label = planar(theta, norm=0.01)  # far below the mean: k = -1
    ada = fixed(head_with(weight, margin=0.4), mean=20.0, std=1.0)(embedding, label)
    arc = ArcFace(embedding_size=2, num_classes=2, scale=_SCALE, margin=0.4, gradient="exact").double()
    arc.load_state_dict({"weight": torch.from_numpy(weight)})
    torch.testing.assert_close(ada, arc(embedding, label))


@pytest.mark.parametrize("theta", [0.3, 1.0, 2.0])
def test_pictures_at_the_mean_get_the_margin_of_cosface(theta: float) -> None:
    embedding, weight, label = planar(theta, norm=20.0)  # k = 0
    ada = fixed(head_with(weight, margin=0.4), mean=20.0, std=1.0)(embedding, label)
    cos = CosFace(embedding_size=2, num_classes=2, scale=_SCALE, margin=0.4).double()
    cos.load_state_dict({"weight": torch.from_numpy(weight)})
    torch.testing.assert_close(ada, cos(embedding, label))


def test_good_pictures_get_a_negative_angle_and_twice_the_cosine_margin() -> None:
    embedding, weight, label = planar(1.0, norm=90.0)  # far above the mean: k = 1
    logits = fixed(head_with(weight, margin=0.4), mean=20.0, std=1.0)(embedding, label)
    assert float(logits[0, 0].detach()) == pytest.approx(_SCALE * (math.cos(1.0 - 0.4) - 0.8))


@pytest.mark.parametrize(("theta", "norm"), [(0.1, 90.0), (math.pi - 0.1, 0.01)])
def test_angle_is_held_inside_the_half_circle(theta: float, norm: float) -> None:
    embedding, weight, label = planar(theta, norm)
    k = 1.0 if norm > 20.0 else -1.0
    logits = fixed(head_with(weight, margin=0.4), mean=20.0, std=1.0)(embedding, label)
    edge = 1e-3 if k > 0 else math.pi - 1e-3
    assert float(logits[0, 0].detach()) == pytest.approx(_SCALE * (math.cos(edge) - 0.4 * (1 + k)))


def test_margin_follows_the_running_statistics_and_acts_on_angle_and_cosine() -> None:
    """What a margin of m·tanh(norm - h) + m on the cosine alone misses.

    The same embedding gets another logit when the norms seen before were others, and no additive margin explains the
    logits of two angles at once.
    """
    embedding, weight, label = planar(1.0, norm=15.0)
    head = head_with(weight, margin=0.4)
    logits = [float(fixed(head, mean=mean, std=10.0)(embedding, label)[0, 0].detach()) for mean in (5.0, 15.0, 25.0)]
    assert logits[0] < logits[1] < logits[2]
    fixed(head, mean=5.0, std=2.0)
    additive = []
    for theta in (0.8, 1.6):
        embedding, _, label = planar(theta, norm=15.0)
        additive.append(math.cos(theta) - float(head(embedding, label)[0, 0].detach()) / _SCALE)
    assert abs(additive[0] - additive[1]) > 0.05


def test_gradient_is_the_derivative_of_the_logits_at_a_fixed_quality() -> None:
    rng = np.random.default_rng(1)
    head = fixed(head_with(rng.normal(size=(5, 4))), mean=20.0, std=1e-3)  # so sharp that k is -1 or 1 everywhere
    embeddings = torch.from_numpy(rng.normal(size=(6, 4)))
    embeddings[3:] *= 40.0
    labels = torch.tensor([0, 1, 2, 3, 4, 0])

    def logits(embeddings: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, labels))

    assert gradcheck(logits, (embeddings.requires_grad_(), head.weight))


def test_norm_of_the_embedding_gets_no_gradient() -> None:
    rng = np.random.default_rng(2)
    head = fixed(head_with(rng.normal(size=(5, 4))), mean=20.0, std=10.0)
    embeddings = torch.from_numpy(rng.normal(size=(6, 4)) * 10.0).requires_grad_()
    head(embeddings, torch.tensor([0, 1, 2, 3, 4, 0])).square().sum().backward()
    assert embeddings.grad is not None
    along_the_norm = (embeddings.grad * embeddings.detach()).sum(1)
    torch.testing.assert_close(along_the_norm, torch.zeros_like(along_the_norm), atol=1e-8, rtol=0)
