"""Rules that span several keys of a study."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from facerec.config.validate import PathProblem
from facerec.tuning.schema import ObjectiveConfig, StudyConfig
from facerec.tuning.storage import storage_problem

__all__ = ["check_study"]


def check_study(study: StudyConfig) -> Iterator[PathProblem]:
    """Yield every problem of a structurally valid study."""
    if len(study.objectives) == 1:
        yield ("objectives",), "lists one objective; write it under `objective`"
    if study.objectives and study.objective != ObjectiveConfig():
        yield ("objective",), "has no effect beside `objectives`; remove one of the two"
    for index, objective in enumerate(study.objectives[1:], start=1):
        if objective.bin_file is not None:
            yield ("objectives", index, "bin_file"), "all objectives share the pairs of the first; name them there"
    if study.is_multi_objective:
        yield from _check_several(study)
    yield from _check_sampler(study)
    yield from _check_pruner(study)
    if study.storage is not None and (problem := storage_problem(study.storage)):
        yield ("storage",), problem
    if study.recovery.silence_s <= 2 * study.recovery.heartbeat_s:
        yield ("recovery", "silence_s"), "must be above twice recovery.heartbeat_s, or living workers count as dead"
    if "/" in (study.study or "") or (study.study or "").startswith("."):
        yield ("study",), f"'{study.study}' becomes the name of a folder; use letters, digits, - and _"


def _check_several(study: StudyConfig) -> Iterator[PathProblem]:
    if study.pruner.name != "none":
        yield ("pruner", "name"), "a study of several objectives cannot prune; say none"
    if study.confirm.top_k:
        yield ("confirm", "top_k"), "a study of several objectives has no single best setting to confirm; say 0"
    if study.sampler.name == "cmaes":
        yield ("sampler", "name"), "cmaes knows one objective only; use tpe, gp, random or grid"
    if study.report.files:
        yield ("report", "bin_file"), "a study of several objectives confirms nothing, so it has no effect; remove it"


def _check_sampler(study: StudyConfig) -> Iterator[PathProblem]:
    name = study.sampler.name
    if study.sampler.startup_trials is not None and name in ("random", "grid"):
        yield ("sampler", "startup_trials"), f"has no effect with {name}; remove it"
    if name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        yield ("sampler", "name"), "cmaes needs the package of that name; install the extra 'cmaes'"


def _check_pruner(study: StudyConfig) -> Iterator[PathProblem]:
    pruner = study.pruner
    if pruner.reduction_factor is not None and pruner.name not in ("hyperband", "halving"):
        yield ("pruner", "reduction_factor"), f"has no effect with {pruner.name}; remove it"
    if pruner.startup_trials is not None and pruner.name != "median":
        yield ("pruner", "startup_trials"), f"has no effect with {pruner.name}; remove it"
