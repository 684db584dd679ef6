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
        {"float": [0.1, 0.4], "when": {"head.type": ["adaface"]}},
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


@pytest.mark.parametrize(
    ("condition", "place", "sentence"),
    [
        ({"head.type": "adafcae"}, ("space", "head.h", "when", "head.type"), "did you mean 'adaface'"),
        ({"head.type": ["adaface", "cosface"]}, ("space", "head.h", "when", "head.type"), "never is cosface"),
        (
            {"training.epochs": 12},
            ("space", "head.h", "when", "training.epochs"),
            "never is 12: the space has int 2 to 8",
        ),
    ],
)
def test_a_condition_names_a_value_that_its_key_can_have(condition: dict, place: tuple, sentence: str) -> None:
    data = {
        "head.type": {"choice": ["arcface", "adaface"]},
        "training.epochs": {"int": [2, 8]},
        "head.h": {"float": [0.1, 0.5], "when": condition},
    }
    _, problems = parse_space(data, is_grid=False)
    assert [path for path, _ in problems] == [place]
    assert sentence in problems[0][1]


def test_alternatives_exclude_each_other() -> None:
    def found(second: dict) -> list:
        data = {
            "head.type": {"choice": ["arcface", "adaface", "cosface"]},
            "training.epochs": {"int": [2, 8]},
            "head.margin": [
                {"float": [0.2, 0.6], "when": {"head.type": ["arcface", "cosface"], "training.epochs": 2}},
                {"float": [0.1, 0.4], "when": second},
            ],
        }
        return parse_space(data, is_grid=False)[1]

    assert found({"head.type": "adaface"}) == []
    assert found({"head.type": "cosface", "training.epochs": [3, 4]}) == []
    for overlapping in ({"head.type": ["adaface", "cosface"]}, {"training.epochs": [2, 3]}):
        ((place, sentence),) = found(overlapping)
        assert place == ("space", "head.margin", 1)
        assert "can hold together with alternative 0" in sentence


def test_unknown_and_locked_keys_are_refused_with_the_nearest_one() -> None:
    _, problems = parse_space({"head.margn": {"float": [0, 1]}, "logging.print_freq": {"int": [1, 2]}}, is_grid=False)
    assert "did you mean 'head.margin'" in problems[0][1]
    assert "cannot be varied" in problems[1][1]
