"""The gate holds a model back only for what is worse beyond noise."""

from __future__ import annotations

import numpy as np

from facerec.serving.gate import compare_on_set
from tests.evaluation.conftest import made_up_result


def test_a_model_is_not_worse_than_itself() -> None:
    result = made_up_result()
    comparison = compare_on_set(result, result)
    assert comparison.reasons == []
    assert (comparison.only_new_right, comparison.only_present_right, comparison.tar_difference) == (0, 0, 0.0)


def test_a_clearly_worse_model_is_held_back_and_a_better_one_is_not() -> None:
    good, bad = made_up_result(quality=2.0), made_up_result(quality=0.7)
    assert len(compare_on_set(bad, good).reasons) == 2
    assert compare_on_set(good, bad).reasons == []


def test_the_decisions_are_those_of_the_folds() -> None:
    good, bad = made_up_result(quality=2.0), made_up_result(quality=1.0)
    comparison = compare_on_set(bad, good)
    lost = comparison.only_present_right - comparison.only_new_right
    assert lost / good.pairs == np.float64(good.accuracy - bad.accuracy).round(10)


def test_noise_alone_holds_few_models_back() -> None:
    held = 0
    for seed in range(40):
        first = made_up_result(quality=1.2, seed=2 * seed)
        second = made_up_result(quality=1.2, seed=2 * seed)
        # Other noise on the same pairs: another training of the same model.
        noise = np.random.default_rng(seed).normal(0, 0.05, second.scores.shape)
        object.__setattr__(second, "scores", np.clip(second.scores + noise, -1, 1))
        held += bool(compare_on_set(first, second).reasons)
    assert held <= 6
