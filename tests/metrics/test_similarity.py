"""Normalisation, distances and norms against scikit-learn and identities of geometry."""

import math

import numpy as np
import pytest
import sklearn.preprocessing
from hypothesis import given
from hypothesis import strategies as st

from facerec.errors import MetricError
from facerec.metrics.similarity import cosines, d_prime, normalise, norms, squared_distances


def embeddings(seed=0, count=50, size=64):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32) * 7.0


def test_normalise_equals_scikit_learn_also_for_a_zero_embedding():
    given_values = embeddings().astype(np.float64)
    given_values[3] = 0.0
    np.testing.assert_allclose(normalise(given_values), sklearn.preprocessing.normalize(given_values), atol=1e-15)


def test_squared_distance_is_two_minus_two_cosines():
    first, second = normalise(embeddings(1)), normalise(embeddings(2))
    np.testing.assert_allclose(squared_distances(first, second), 2.0 - 2.0 * cosines(first, second), atol=1e-14)


def test_a_cosine_never_leaves_its_range():
    same = normalise(embeddings(3, count=2000))
    assert cosines(same, same).max() <= 1.0
    assert cosines(same, -same).min() >= -1.0
    np.testing.assert_allclose(cosines(same, same), 1.0, atol=1e-14)


@given(st.floats(0.01, 100.0))
def test_scaling_embeddings_scales_their_norms_and_keeps_their_direction(factor):
    values = embeddings(4).astype(np.float64)
    np.testing.assert_allclose(norms(values * factor), norms(values) * factor)
    np.testing.assert_allclose(normalise(values * factor), normalise(values), atol=1e-12)


def test_norms_equal_numpys():
    np.testing.assert_allclose(norms(embeddings()), np.linalg.norm(embeddings().astype(np.float64), axis=1))


def test_half_precision_embeddings_do_not_overflow():
    np.testing.assert_allclose(norms(np.full((2, 512), 6e4, dtype=np.float16)), 60000 * math.sqrt(512), rtol=1e-3)


def test_d_prime_by_hand():
    ours, theirs = np.array([0.5, 0.7, 0.9, 0.6]), np.array([0.1, 0.3, 0.0, 0.1])
    pooled = math.sqrt((np.var(ours) + np.var(theirs)) / 2)
    expected = (np.mean(ours) - np.mean(theirs)) / pooled
    assert d_prime([*ours, *theirs], [1] * 4 + [0] * 4) == pytest.approx(expected)


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(1.0, 0.1, math.inf), (0.1, 1.0, -math.inf), (0.1, 0.1, 0)])
def test_d_prime_without_any_spread(ours, theirs, expected):
    assert d_prime([ours] * 3 + [theirs] * 7, [1] * 3 + [0] * 7) == expected


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 2, 2)), np.array([["a"]])])
def test_embeddings_of_another_shape_are_refused(bad):
    with pytest.raises(MetricError, match="shape"):
        normalise(bad)


def test_an_embedding_that_is_not_finite_is_named():
    values = embeddings()
    values[17, 2] = np.nan
    with pytest.raises(MetricError, match="embedding 17"):
        normalise(values)


@pytest.mark.parametrize("function", [cosines, squared_distances])
def test_pairs_of_unequal_shape_are_refused(function):
    with pytest.raises(MetricError, match="two embeddings each"):
        function(np.zeros((3, 4)), np.zeros((1, 4)))
