"""A study, read from its file and resolved: what runs, without anything having run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.config.load import (
    apply_overrides,
    config_to_dict,
    find_problems,
    flatten,
    load_config,
)
from facerec.config.recipes import find_file
from facerec.config.schema import Config
from facerec.config.validate import PathProblem, describe_problems, validate
from facerec.config.yamlio import KeyPath, read_yaml
from facerec.errors import ConfigError, near_match
from facerec.registry import HEADS
from facerec.tuning.checks import check_study
from facerec.tuning.metric import Objective, build_objective, pair_set_names
from facerec.tuning.schema import StudyConfig
from facerec.tuning.settings import applicable, config_problems, lay_over, outside_problems, range_problems
from facerec.tuning.space import Space
from facerec.tuning.space_yaml import parse_space

__all__ = ["StudyPlan", "load_study", "plan_from_dict", "plan_to_dict", "setting_of"]


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study does."""

    name: str
    study: StudyConfig
    base_data: dict[str, Any]
    """The baseline's configuration as plain data, complete."""
    space: Space
    objectives: tuple[Objective, ...]
    baseline: dict[str, Any]
    """The baseline's value of every varied key."""
    seeds: tuple[dict[str, Any], ...]
    """Settings to try first, complete."""

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return Path(self.study.folder) / self.name

    @property
    def base(self) -> Config:
        """The baseline."""
        return find_problems(self.base_data)[0]

    @property
    def objective(self) -> Objective:
        """The first objective."""
        return self.objectives[0]

    def config_data(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a setting, as plain data."""
        return lay_over(self.base_data, self.space.overlay(values))


def load_study(
    path: str | Path,
    *,
    base: str | None = None,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    storage: str | None = None,
) -> StudyPlan:
    """Read and validate a study; ``base`` and what follows replace what the file says.

    ``overrides`` are ``KEY=VALUE`` texts over the base configuration.

    Raises:
        MissingPathError: the study or its base configuration does not exist.
        ConfigError: anything in it cannot be used; the message has one line per problem.
    """
    found = find_file(path, kind="studies")
    data, lines = read_yaml(found)
    study, problems = validate(StudyConfig, data, unknown_key=_unknown_key)
    budget = dataclasses.replace(study.budget, trials=trials or study.budget.trials)
    study = dataclasses.replace(study, budget=budget, storage=storage or study.storage, base=base or study.base)
    space, space_problems = parse_space(study.space, is_grid=study.sampler.name == "grid")
    problems += space_problems
    problems += check_study(study)
    base_data, base_problems = _base_data(study, overrides)
    problems += base_problems
    objectives, objective_problems = _objectives(study, base_data)
    problems += objective_problems
    plan = _resolve(study, space, objectives, _watching(base_data, objectives), name=study.study or Path(found).stem)
    if not base_problems and not space_problems:
        baseline = setting_of(space, plan.base_data)
        problems += outside_problems(space, baseline, study.seeds)
        problems += range_problems(space, plan.base_data, baseline)
    if problems:
        raise ConfigError(describe_problems(problems, lines=lines, override_paths=set(), source=str(found)))
    return plan


def plan_to_dict(plan: StudyPlan) -> dict[str, Any]:
    """A plan as plain data, as a study's storage remembers it, without the storage, which may name a password."""
    study = dataclasses.replace(plan.study, storage=None)
    return {"name": plan.name, "study": dataclasses.asdict(study), "base": plan.base_data}


def plan_from_dict(data: Mapping[str, Any]) -> StudyPlan:
    """What `plan_to_dict` made."""
    study, _ = validate(StudyConfig, dict(data["study"]), unknown_key=_unknown_key)
    space, _ = parse_space(study.space, is_grid=study.sampler.name == "grid")
    objectives, _ = _objectives(study, dict(data["base"]))
    return _resolve(study, space, objectives, dict(data["base"]), name=data["name"])


def _resolve(
    study: StudyConfig, space: Space, objectives: tuple[Objective, ...], base_data: dict[str, Any], *, name: str
) -> StudyPlan:
    baseline = setting_of(space, base_data)
    return StudyPlan(
        name=name,
        study=study,
        base_data=base_data,
        space=space,
        objectives=objectives,
        baseline=dict(applicable(space, baseline)),
        seeds=tuple(dict(applicable(space, baseline | seed)) for seed in study.seeds),
    )


def setting_of(space: Space, data: Mapping[str, Any]) -> dict[str, Any]:
    """The value that a configuration, as plain data, has of every varied key; a head's own margin is its published."""
    flat = flatten(dict(data))
    values: dict[str, Any] = {}
    for dimension in space.dimensions:
        value = flat.get(dimension.key)
        section, _, option = dimension.key.partition(".")
        if value is None and section == "head" and flat["head.type"] in HEADS:
            value = HEADS.entry(flat["head.type"]).options.get(option)
        values[dimension.key] = value
    return values


def _base_data(study: StudyConfig, overrides: Sequence[str]) -> tuple[dict[str, Any], list[PathProblem]]:
    """The baseline as complete plain data; wrong values of `set` are reported and left out."""
    problems: list[PathProblem] = []
    data = config_to_dict(load_config(study.base))
    for key, value in study.set.items():
        path: KeyPath = ("set", key)
        changed = lay_over(data, {key: value})
        found = config_problems(changed)
        if not found:
            data = changed
        problems += [(path, _about(inner, key, sentence)) for inner, sentence in found]
    # What the command line says counts more than the file.
    data, _ = apply_overrides(data, overrides, problems)
    if wrong := config_problems(data):
        raise ConfigError(describe_problems(wrong, lines={}, override_paths={path for path, _ in wrong}, source=""))
    tuning = study.all_objectives[0].bin_file
    if tuning is not None:
        names = [tuning] if isinstance(tuning, str) else list(tuning)
        data = lay_over(data, {"eval.bin_file": names, "eval.dataset": None})
        place: KeyPath = ("objectives", 0, "bin_file") if study.objectives else ("objective", "bin_file")
        problems += [(place, sentence) for _, sentence in config_problems(data)]
    return config_to_dict(find_problems(data)[0]), problems


def _about(inner: KeyPath, key: str, sentence: str) -> str:
    dotted = ".".join(map(str, inner))
    return sentence if dotted == key else f"makes {dotted} wrong: {sentence}"


def _objectives(study: StudyConfig, base_data: dict[str, Any]) -> tuple[tuple[Objective, ...], list[PathProblem]]:
    base, _ = find_problems(base_data)
    tuning_sets = pair_set_names(base)
    report_sets = [Path(name).stem for name in study.report.files]
    problems: list[PathProblem] = []
    if clash := sorted(set(report_sets) & set(tuning_sets)):
        problems.append((("report", "bin_file"), f"{clash[0]} is a tuning set too; report on pairs never tuned on"))
    objectives: list[Objective] = []
    for index, settings in enumerate(study.all_objectives):
        path: KeyPath = ("objectives", index, "metric") if study.objectives else ("objective", "metric")
        try:
            objectives.append(build_objective(settings, tuning_sets=tuning_sets, report_sets=report_sets))
        except ConfigError as error:
            problems.append((path, str(error)))
    return tuple(objectives), problems


def _watching(base_data: dict[str, Any], objectives: Sequence[Objective]) -> dict[str, Any]:
    """The baseline with the objective as the metric that decides which checkpoint is best."""
    watched = next((one for one in objectives if one.key), None)
    if watched is None:
        return base_data
    mode = "max" if watched.direction == "maximize" else "min"
    return lay_over(base_data, {"training.monitor": watched.key, "training.mode": mode})


def _unknown_key(path: KeyPath) -> str:
    node: Any = StudyConfig
    for part in path[:-1]:
        kinds = {item.name: item for item in dataclasses.fields(node)}
        factory = kinds[str(part)].default_factory if str(part) in kinds else None
        if not dataclasses.is_dataclass(factory):
            return "unknown key"
        node = factory
    names = [item.name for item in dataclasses.fields(node)]
    return f"unknown key{near_match(str(path[-1]), names)}; known: {', '.join(names)}"
