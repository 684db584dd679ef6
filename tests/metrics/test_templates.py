"""Pooling and pair scores against the loops that the field uses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.errors import MetricError
from facerec.metrics.templates import pair_scores, pool_templates


def loops(embeddings, templates, media, weights):
    weighted = embeddings * weights[:, None]
    pooled = []
    for template in sorted(set(templates.tolist())):
        here = templates == template
        total = np.zeros(embeddings.shape[1])
        for medium in set(media[here].tolist()):
            total += weighted[here & (media == medium)].mean(axis=0)
        pooled.append(total / np.linalg.norm(total))
    return np.array(pooled)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_pooling_equals_the_loops(seed, size):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(size, 5))
    templates, media = generator.integers(0, 6, size), generator.integers(-2, 3, size)
    weights = generator.uniform(0.1, 1.0, size)
    numbers, pooled = pool_templates(embeddings, templates=templates, media=media, weights=weights)
    assert numbers.tolist() == sorted(set(templates.tolist()))
    np.testing.assert_allclose(pooled, loops(embeddings, templates, media, weights), atol=1e-5)
    order = generator.permutation(size)
    again = pool_templates(embeddings[order], templates=templates[order], media=media[order], weights=weights[order])
    np.testing.assert_allclose(again[1], pooled, atol=1e-5)


def test_the_norm_and_the_weight_of_an_image_count():
    _, pooled = pool_templates([[3.0, 0.0], [0.0, 1.0]], templates=[0, 0], media=[0, 1], weights=[1.0, 3.0])
    np.testing.assert_allclose(pooled, [[0.5**0.5, 0.5**0.5]], atol=1e-6)


def test_pair_scores_do_not_depend_on_the_chunk(monkeypatch):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(9, 4)).astype(np.float32)
    rows = generator.integers(0, 9, (50, 2))
    monkeypatch.setattr("facerec.metrics.templates._CHUNK", 7)
    expected = (embeddings[rows[:, 0]] * embeddings[rows[:, 1]]).sum(axis=1)
    np.testing.assert_allclose(pair_scores(embeddings, rows), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("embeddings", "templates", "sentence"),
    [
        ([[np.nan, 1.0]], [0], "not finite"),
        ([[1.0]], [0, 1], "templates must"),
        ([], [], "shape"),
        ([[1.0]], [0.5], "templates must"),
    ],
)
def test_what_cannot_be_pooled_is_refused(embeddings, templates, sentence):
    with pytest.raises(MetricError, match=sentence):
        pool_templates(embeddings, templates=templates, media=[0])
