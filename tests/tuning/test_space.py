"""The search space: conditions, grids, stored forms."""

from __future__ import annotations

import optuna
import pytest

from facerec.tuning.space import Space, set_dotted
from facerec.tuning.space_yaml import parse_space

CONDITIONAL = {
    "head.h": {"float": [0.1, 0.5], "when": {"head.type": "adaface"}},
    "head.type": {"choice": ["arcface", "adaface"]},
    "head.margin": [
        {"float": [0.2, 0.6], "when": {"head.type": "arcface"}},
        {"float": [0.1, 0.4], "when": {"head.type": ["adaface", "cosface"]}},
    ],
    "training.milestones": {"choice": [[4, 6], [5, 8]]},
}


def space_of(data: dict, *, is_grid: bool = False) -> Space:
    space, problems = parse_space(data, is_grid=is_grid)
    assert problems == []
    return space


def test_a_condition_decides_which_keys_are_suggested_and_from_which_range() -> None:
    space = space_of(CONDITIONAL)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        values = space.suggest(study.ask())
        seen.add(values["head.type"])
        assert ("head.h" in values) == (values["head.type"] == "adaface")
        low, high = (0.2, 0.6) if values["head.type"] == "arcface" else (0.1, 0.4)
        assert low <= values["head.margin"] <= high
        assert values["training.milestones"] in ([4, 6], [5, 8])
        assert space.from_params(space.to_params(values)) == values
    assert seen == {"arcface", "adaface"}


def test_a_key_whose_condition_fails_takes_its_default_not_the_base_configurations() -> None:
    space = space_of(CONDITIONAL)
    assert space.overlay({"head.type": "arcface", "head.margin": 0.3})["head.h"] is None
    data = {"head": {"h": 0.3, "scale": 16}}
    set_dotted(data, "head.h", None)
    set_dotted(data, "eval.flip", False)
    assert data == {"head": {"scale": 16}, "eval": {"flip": False}}


def test_a_space_survives_being_stored_as_plain_data() -> None:
    space = space_of(CONDITIONAL)
    assert Space.from_dict(space.to_dict()) == space


def test_a_grid_holds_every_combination_that_conditions_allow_once() -> None:
    data = {
        "head.type": {"choice": ["arcface", "adaface"]},
        "head.h": {"float": [0.1, 0.3], "step": 0.1, "when": {"head.type": "adaface"}},
        "training.lr": {"float": [0.01, 1.0], "log": True, "points": 3},
    }
    grid = space_of(data, is_grid=True).grid()
    assert grid is not None
    assert len(grid) == (1 + 3) * 3
    assert [round(values["training.lr"], 9) for values in grid[:3]] == [0.01, 0.1, 1.0]
    assert len({str(sorted(values.items())) for values in grid}) == len(grid)


def test_whole_number_grids_keep_their_ends_and_their_step() -> None:
    grid = space_of({"training.epochs": {"int": [2, 9], "step": 3}}, is_grid=True).grid()
    assert grid == [{"training.epochs": 2}, {"training.epochs": 5}, {"training.epochs": 8}]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"floot": [0, 1]}, "must say one of float, int, choice"),
        ({"float": [1, 0]}, "must rise"),
        ({"float": [0, 1], "log": True}, "logarithmic range must be above 0"),
        ({"float": [0.1, 1], "log": True, "step": 0.1}, "cannot go with log"),
        ({"int": [0.5, 2]}, "two whole numbers"),
        ({"choice": []}, "list of values"),
        ({"choice": [1, 1]}, "twice"),
        ({"float": [0, 1], "logg": True}, "did you mean 'log'"),
        ({"float": [0, 1], "points": 4}, "sampler.name: grid only"),
        ({"float": [0, 1], "when": {"head.type": "arcface"}}, "which the space does not vary"),
    ],
)
def test_a_wrong_dimension_gets_a_sentence(entry: dict, sentence: str) -> None:
    _, problems = parse_space({"head.margin": entry}, is_grid=False)
    assert len(problems) == 1
    assert sentence in problems[0][1]


def test_unknown_and_locked_keys_are_refused_with_the_nearest_one() -> None:
    _, problems = parse_space({"head.margn": {"float": [0, 1]}, "logging.print_freq": {"int": [1, 2]}}, is_grid=False)
    assert "did you mean 'head.margin'" in problems[0][1]
    assert "cannot be varied" in problems[1][1]
