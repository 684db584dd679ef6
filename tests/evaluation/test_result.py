"""A result from embeddings: the protocol, the norms, the names of the values."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from facerec.errors import MetricError
from facerec.evaluation.embed import Embeddings
from facerec.evaluation.result import metric_values, score_pairs
from facerec.evaluation.stored import read_embeddings

from .conftest import made_up_result


@pytest.fixture(scope="module")
def lfw(shared_data):
    stored = read_embeddings(shared_data / "oracle" / "lfw_embeddings.npz")
    expected = json.loads((shared_data / "oracle" / "lfw_expected.json").read_text())
    return stored, expected


def test_lfw_equals_arcface_torch(lfw):
    stored, expected = lfw
    result = score_pairs(
        stored.embeddings, pair_index=stored.pair_index, issame=stored.issame, name="lfw", sha256=stored.sha256
    )
    assert result.pairs == expected["pairs"]
    assert result.accuracy == pytest.approx(expected["accuracy"], abs=1e-12, rel=0)
    assert result.accuracy_std == pytest.approx(expected["std"], abs=1e-12, rel=0)
    np.testing.assert_allclose(result.fold_accuracy, expected["fold_accuracy"], atol=1e-12, rtol=0)
    np.testing.assert_allclose(result.fold_threshold_sq_l2, expected["fold_threshold_sq_l2"], atol=1e-12, rtol=0)


def test_scores_are_cosines_of_the_summed_versions():
    generator = np.random.default_rng(0)
    original, flipped = generator.normal(size=(2, 24, 5)).astype(np.float32)
    pair_index = generator.integers(0, 24, (40, 2))
    issame = np.arange(40) % 2 == 0
    result = score_pairs(
        Embeddings(original=original, flipped=flipped), pair_index=pair_index, issame=issame, name="a", sha256=""
    )
    summed = normalize(original.astype(np.float64) + flipped)
    expected = [float(summed[a] @ summed[b]) for a, b in pair_index]
    np.testing.assert_allclose(result.scores, expected, atol=1e-14)
    assert result.auc == pytest.approx(roc_auc_score(issame, expected), abs=1e-12)
    norms = [
        [np.linalg.norm(version[k].astype(np.float64)) for k in pair_index.ravel()] for version in (original, flipped)
    ]
    assert result.xnorm == pytest.approx(np.mean(norms))


def test_an_operating_point_holds_when_its_threshold_is_applied(result):
    for point in result.operating_points:
        accepted = result.scores >= point.threshold
        assert np.mean(accepted[result.issame]) == point.tar
        assert np.mean(accepted[~result.issame]) == point.far <= point.far_target


def test_lower_fars_are_given_only_where_the_impostors_show_them():
    def fars(num_impostor):
        embeddings = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        pair_index = np.tile(np.arange(50).reshape(-1, 2), (num_impostor // 25 + 1, 1))
        issame = np.arange(len(pair_index)) >= num_impostor
        stored = Embeddings(original=embeddings, flipped=None)
        result = score_pairs(stored, pair_index=pair_index, issame=issame, name="a", sha256="")
        return [point.far_target for point in result.operating_points]

    assert fars(299_900) == [1e-1, 1e-2, 1e-3, 1e-4]
    assert fars(300_000) == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]


def test_metric_values_have_the_names_of_the_house(results):
    values = metric_values(results[:1])
    assert set(values) == {
        f"eval/set_0/{metric}"
        for metric in (
            "accuracy",
            "accuracy_std",
            "auc",
            "eer",
            "d_prime",
            "xnorm",
            *(f"{kind}_at_far_1e-{k}" for kind in ("tar", "threshold") for k in (1, 2, 3, 4)),
        )
    }
    assert values["eval/set_0/accuracy"] == results[0].accuracy
    assert values["eval/set_0/tar_at_far_1e-2"] == results[0].operating_points[1].tar
    assert values["eval/set_0/threshold_at_far_1e-2"] == results[0].operating_points[1].threshold


def test_several_sets_give_means_but_no_mean_threshold(results):
    values = metric_values(results)
    assert values["eval/mean/accuracy"] == pytest.approx(np.mean([result.accuracy for result in results]))
    assert values["eval/mean/eer"] == pytest.approx(np.mean([result.eer for result in results]))
    assert not [key for key in values if key.startswith("eval/mean/threshold")]


def test_a_collapsed_model_has_a_result_of_finite_values():
    constant = Embeddings(original=np.ones((40, 4), np.float32), flipped=None)
    result = score_pairs(
        constant, pair_index=np.arange(40).reshape(-1, 2), issame=np.arange(20) % 2 == 0, name="a", sha256=""
    )
    assert (result.accuracy, result.auc, result.eer, result.d_prime) == (0.5, 0.5, 0.5, 0.0)
    assert all(map(math.isfinite, metric_values([result]).values()))


def test_infinite_values_are_left_out_of_the_curves():
    embeddings = np.tile(np.eye(2, dtype=np.float32)[[0, 0, 0, 1]], (10, 1))
    result = score_pairs(
        Embeddings(original=embeddings, flipped=None),
        pair_index=np.arange(40).reshape(-1, 2),
        issame=np.arange(20) % 2 == 0,
        name="a",
        sha256="",
    )
    assert result.d_prime == math.inf
    assert "eval/a/d_prime" not in metric_values([result])


def test_errors_name_the_set():
    with pytest.raises(MetricError, match=r"tiny: .*cannot fill 10 folds"):
        made_up_result(name="tiny", num_pairs=8)
