"""What the tests of the heads share: heads with given centres, and cosines by plain numpy."""

from __future__ import annotations

import math

import numpy as np
import torch

from facerec.models.heads.base import CosineHead

SCALE = 64.0


def head_with(kind: type[CosineHead], weight: np.ndarray, **settings: object) -> CosineHead:
    """A head in float64 with these centres; (C, D) or (C, K, D)."""
    head = kind(embedding_size=weight.shape[-1], num_classes=weight.shape[0], **{"scale": SCALE, **settings}).double()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    return head


def random_case(
    count: int = 40, classes: int = 6, size: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Embeddings, centres and labels."""
    rng = np.random.default_rng(seed)
    labels = [int(label) for label in rng.integers(0, classes, size=count)]
    return rng.normal(size=(count, size)), rng.normal(size=(classes, size)), labels


def cosines(embeddings: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The cosine of every embedding with every centre, one at a time."""
    result = np.empty((len(embeddings), len(weight)))
    for i, embedding in enumerate(embeddings):
        for j, centre in enumerate(weight):
            result[i, j] = float(embedding @ centre) / math.sqrt(float(embedding @ embedding) * float(centre @ centre))
    return result


def logits_of(head: CosineHead, embeddings: np.ndarray, labels: list[int]) -> np.ndarray:
    """What the head gives, as numpy."""
    return head(torch.from_numpy(embeddings), torch.tensor(labels)).detach().numpy()


def at_angle(theta: float, norm: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """An embedding at the angle ``theta`` from the first of two class centres in the plane."""
    return norm * np.array([[math.cos(theta), math.sin(theta)]]), np.array([[2.0, 0.0], [0.0, 5.0]])


def logit_at_angle(kind: type[CosineHead], theta: float, *, norm: float = 3.0, **settings: object) -> float:
    """The logit at the label for an embedding at this angle from its centre, divided by the scale."""
    embedding, weight = at_angle(theta, norm)
    return float(logits_of(head_with(kind, weight, **settings), embedding, [0])[0, 0]) / SCALE
