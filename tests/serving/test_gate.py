"""The gate holds a model back only for what is worse beyond noise."""

from __future__ import annotations

import dataclasses

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


def test_the_decisions_are_the_results_own_whatever_the_cosines_say() -> None:
    result = made_up_result()
    # Cosines and distances are rounded each for itself, so they may lie on two sides of a threshold.
    shifted = dataclasses.replace(result, scores=result.scores - 0.5)
    comparison = compare_on_set(shifted, result)
    assert (comparison.only_new_right, comparison.only_present_right) == (0, 0)


def test_people_are_drawn_where_pairs_share_them() -> None:
    present = made_up_result(quality=1.0)
    # The same pairs, now of twenty people, of whom the new model knows some better and some worse.
    few = present.people % 20
    few[present.issame, 1] = few[present.issame, 0]
    few[~present.issame, 1] = (few[~present.issame, 0] + 1 + few[~present.issame, 1] % 19) % 20
    change = np.random.default_rng(0).normal(0, 0.2, 20)[few].sum(axis=1)
    new = dataclasses.replace(present, scores=present.scores + change)
    apart = compare_on_set(new, present)
    together = compare_on_set(*(dataclasses.replace(one, people=few) for one in (new, present)))
    assert together.tar_difference == apart.tar_difference
    assert np.subtract(*together.tar_interval) < 1.5 * np.subtract(*apart.tar_interval) < 0.0


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
