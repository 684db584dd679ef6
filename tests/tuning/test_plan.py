"""Study files: everything wrong at once, with lines, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from facerec.config.load import find_problems
from facerec.errors import ConfigError
from facerec.tuning.plan import load_study, plan_from_dict, plan_to_dict
from facerec.tuning.study import search_slots

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = sorted((REPOSITORY / "studies").glob("*.yaml"))


TWO = {
    "objectives": [{"metric": "accuracy"}, {"metric": "latency_ms"}],
    "pruner": {"name": "none"},
    "confirm": {"top_k": 0},
}


def write(folder: Path, text: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(text)
    return path


def study(folder: Path, **changes: object) -> Path:
    data = {"base": "configs/demo.yaml", "space": {"training.lr": {"float": [0.01, 0.5], "log": True}}, **changes}
    return write(folder, yaml.safe_dump(data))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_valid_and_its_first_slot_is_the_baseline(path: Path) -> None:
    plan = load_study(path)
    slots = search_slots(plan)
    assert len(slots) == plan.study.budget.trials
    assert slots[0].attrs == {"facerec.baseline": True}
    assert plan.space.from_params(slots[0].params) == plan.baseline
    assert plan_from_dict(json.loads(json.dumps(plan_to_dict(plan)))) == plan


def test_all_errors_come_at_once_with_line_path_and_near_match(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "base: configs/demo.yaml\n"
        "objective: {metric: acuracy}\n"
        "bugdet: {trials: 3}\n"
        "pruner: {name: median, reduction_factor: 3}\n"
        "set:\n"
        "  trainnig.epochs: 3\n"
        "space:\n"
        "  head.margn: {float: [0, 1]}\n"
        "  training.momentum: {float: [0.5, 1.5]}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    lines = str(caught.value).splitlines()
    assert len(lines) >= 5
    assert any("line 2: objective.metric" in line and "did you mean 'accuracy'" in line for line in lines)
    assert any("line 3: bugdet: unknown key (did you mean 'budget'?)" in line for line in lines)
    assert any("line 4: pruner.reduction_factor: has no effect with median" in line for line in lines)
    assert any("line 6: set.trainnig.epochs" in line and "unknown key" in line for line in lines)
    assert any("line 8: space.head.margn" in line for line in lines)


def test_a_range_that_the_schema_refuses_at_one_end_names_the_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"space.training.momentum: 1.5: must be below 1"):
        load_study(study(tmp_path, space={"training.momentum": {"float": [0.5, 1.5]}}))


def test_a_choice_that_breaks_another_key_is_refused(tmp_path: Path) -> None:
    path = study(
        tmp_path,
        set={"head.gradient": "exact"},
        space={"head.type": {"choice": ["arcface", "cosface"]}},
    )
    with pytest.raises(ConfigError, match=r"cosface makes head.gradient wrong: has no effect"):
        load_study(path)


def test_a_baseline_outside_the_space_is_refused(tmp_path: Path) -> None:
    path = study(tmp_path, space={"training.lr": {"float": [0.1, 0.5]}})
    with pytest.raises(ConfigError, match=r"the baseline's 0.05 is not in the range"):
        load_study(path)


def test_seeds_are_checked_and_completed_by_the_baseline(tmp_path: Path) -> None:
    space = {"training.lr": {"float": [0.01, 0.5], "log": True}, "head.margin": {"float": [0.0, 0.6]}}
    plan = load_study(study(tmp_path, space=space, seeds=[{"training.lr": 0.2}]))
    assert search_slots(plan)[1].params == {"training.lr": 0.2, "head.margin": 0.3}
    with pytest.raises(ConfigError) as caught:
        load_study(study(tmp_path, space=space, seeds=[{"training.lr": 3.0}, {"head.scale": 4.0}]))
    assert "seeds.0.training.lr: 3.0 is not in the range" in str(caught.value)
    assert "seeds.1.head.scale: is not a key of the space" in str(caught.value)


def test_an_unset_margin_of_the_baseline_is_the_heads_published_one(tmp_path: Path) -> None:
    plan = load_study(study(tmp_path, set={"head.margin": None}, space={"head.margin": {"float": [0.0, 0.6]}}))
    assert plan.baseline == {"head.margin": 0.5}


def test_the_training_watches_the_objective(tmp_path: Path) -> None:
    plan = load_study(study(tmp_path, objective={"metric": "eer"}))
    assert plan.objective.direction == "minimize"
    assert (plan.base.training.monitor, plan.base.training.mode) == ("eval/orl/eer", "min")


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        ({"metric": "eer", "direction": "maximize"}, "eer is better where it is less; remove direction"),
        ({"metric": "macs", "direction": "maximize"}, "macs is better where it is less"),
        ({"metric": "accuracy", "direction": "minimize"}, "accuracy is better where it is more"),
        ({"metric": "xnorm"}, "say which with direction"),
    ],
)
def test_an_objective_goes_the_way_in_which_it_is_better(tmp_path: Path, objective: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_study(study(tmp_path, objective=objective))


def test_several_objectives_share_the_pairs_of_the_first(tmp_path: Path) -> None:
    objectives = [{"metric": "auc", "bin_file": ["a.bin", "b.bin"]}, {"metric": "eer"}]
    plan = load_study(study(tmp_path, **TWO | {"objectives": objectives}))
    assert [one.key for one in plan.objectives] == ["eval/mean/auc", "eval/mean/eer"]
    assert plan.base.bin_files == ("a.bin", "b.bin")


def test_a_storage_is_not_told_its_own_password(tmp_path: Path) -> None:
    plan = load_study(study(tmp_path), storage="postgresql://tuner:secret@db.example/facerec")
    assert "secret" not in json.dumps(plan_to_dict(plan))


def test_overrides_and_another_base_count_more_than_the_file(tmp_path: Path) -> None:
    path = study(tmp_path, set={"training.epochs": 9})
    plan = load_study(path, overrides=["training.epochs=7"], trials=5, storage="sqlite:///x.db")
    assert (plan.base.training.epochs, plan.study.budget.trials, plan.study.storage) == (7, 5, "sqlite:///x.db")
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        load_study(study(tmp_path), overrides=["training.epochs=none"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"storage": "oracle://x"}, "is no storage"),
        ({"storage": "sqlite://x"}, "three slashes"),
        ({"storage": "sqlite:///:memory:"}, "names no file"),
        ({"objectives": [{"metric": "accuracy"}, {"metric": "latency_ms"}]}, "cannot prune; say none"),
        (
            {**TWO, "objectives": [{"metric": "auc"}, {"metric": "accuracy", "bin_file": "x.bin"}]},
            r"objectives\.1\.bin_file: all objectives share the pairs of the first",
        ),
        ({**TWO, "objective": {"metric": "eer"}}, "objective: has no effect beside `objectives`"),
        ({**TWO, "report": {"bin_file": "x.bin"}}, r"report\.bin_file: .* confirms nothing"),
        ({"sampler": {"name": "grid"}}, "a grid needs `points` or `step`"),
        ({"report": {"bin_file": "orl.bin"}}, "is a tuning set too"),
        ({"space": {}}, "is empty"),
        ({"recovery": {"heartbeat_s": 30.0, "silence_s": 40.0}}, "living workers count as dead"),
    ],
)
def test_rules_over_several_keys(tmp_path: Path, changes: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_study(study(tmp_path, **changes))


def test_every_end_of_every_shipped_study_is_a_valid_configuration() -> None:
    for path in STUDIES:
        plan = load_study(path)
        for dimension in plan.space.dimensions:
            for end in dimension.ends():
                values = plan.baseline | {key: allowed[0] for key, allowed in dimension.when.items()}
                data = plan.config_data(values | {dimension.key: end})
                keys = [problem for problem in find_problems(data)[1] if problem[0][-1] == dimension.key.split(".")[-1]]
                assert keys == []
