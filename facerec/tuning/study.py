"""A study in its storage: created once, recognised again, with its slots."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from facerec.config.load import flatten
from facerec.errors import ConfigError
from facerec.tuning.owner import Watch
from facerec.tuning.plan import StudyPlan, plan_to_dict
from facerec.tuning.samplers import build_pruner
from facerec.tuning.slots import Slot, Table
from facerec.tuning.storage import open_storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

Direction = Literal["maximize", "minimize"]

__all__ = ["BASELINE_ATTR", "DEFINITION_ATTR", "RUN_ID_ATTR", "Opened", "open_study", "search_slots"]

BASELINE_ATTR = "facerec.baseline"
RUN_ID_ATTR = "facerec.run_id"
IDENTITY_ATTR = "facerec.identity"
DEFINITION_ATTR = "facerec.definition"

# These change no result, or are the machine's own affair.
_FREE = (
    "device",
    "logging.",
    "checkpoint.",
    "data.root",
    "data.num_workers",
    "data.io",
    "data.reader",
    "training.resume",
    "training.data_parallel",
    "eval.test_batch_size",
)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A study and its confirmation, in their storage."""

    plan: StudyPlan
    storage: BaseStorage
    search: Table
    confirmation: Table


def open_study(plan: StudyPlan, *, data_digests: Mapping[str, str]) -> Opened:
    """Open the storage and create or recognise the study; ``data_digests`` name the data by content.

    Raises:
        ConfigError: a study of this name has another space, objective, baseline or data.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    storage = open_storage(plan.study.storage, folder=plan.folder)
    pruner = build_pruner(plan.study.pruner, epochs=plan.base.training.epochs)
    directions: list[Direction] = [objective.direction for objective in plan.objectives]
    names = (plan.name, f"{plan.name}:confirmation")
    studies = [_create(name, storage, directions=directions, pruner=pruner) for name in names]
    _recognise(studies[0], plan, data_digests)
    for study in studies:
        _name_values(study, [objective.label for objective in plan.objectives])
    watch = Watch(silence_s=plan.study.recovery.silence_s)
    retries = plan.study.recovery.retries
    search, confirmation = (
        Table(study, storage, folder=plan.folder, retries=retries, watch=watch) for study in studies
    )
    return Opened(plan=plan, storage=storage, search=search, confirmation=confirmation)


def search_slots(plan: StudyPlan) -> list[Slot]:
    """The slots of the search: the baseline, the seeds, then the points of a grid or the sampler's choices."""
    space = plan.space
    first = Slot(key="0000", params=space.to_params(plan.baseline), attrs={BASELINE_ATTR: True})
    given = [space.to_params(seed) for seed in plan.seeds]
    if plan.study.sampler.name == "grid":
        points = [space.to_params(values) for values in space.grid() or []]
        given += [params for params in points if params != first.params and params not in given]
        count = min(plan.study.budget.trials, 1 + len(given))
    else:
        count = plan.study.budget.trials
        given += [{}] * max(0, count - 1 - len(given))
    return [first] + [Slot(key=f"{1 + index:04d}", params=params) for index, params in enumerate(given[: count - 1])]


def _create(name: str, storage: BaseStorage, *, directions: Sequence[Direction], pruner: Any) -> Study:
    import optuna

    try:
        return optuna.create_study(
            study_name=name, storage=storage, directions=list(directions), pruner=pruner, load_if_exists=True
        )
    except ValueError as error:
        raise ConfigError(f"study {name} cannot be opened: {error}") from error


def _name_values(study: Study, labels: list[str]) -> None:
    """Let programs that show studies call the values by the names of the metrics."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        if study.metric_names != labels:
            study.set_metric_names(labels)


def _recognise(study: Study, plan: StudyPlan, data_digests: Mapping[str, str]) -> None:
    identity = json.loads(json.dumps(_identity(plan, data_digests)))
    known = study.user_attrs.get(IDENTITY_ATTR)
    if known is None:
        study.set_user_attr(IDENTITY_ATTR, identity)
        known = identity
    changed = [key for key in {**known, **identity} if known.get(key) != identity.get(key)]
    if changed:
        listed = "; ".join(f"{key}: {_shown(known.get(key))} -> {_shown(identity.get(key))}" for key in changed[:8])
        raise ConfigError(
            f"study {plan.name} in its storage is another one ({listed}); its trials cannot be compared with new ones: "
            "set this back, or give the study another name (`study:`)"
        )
    remembered = json.loads(json.dumps(plan_to_dict(plan)))
    if study.user_attrs.get(DEFINITION_ATTR) != remembered:
        study.set_user_attr(DEFINITION_ATTR, remembered)


def _identity(plan: StudyPlan, data_digests: Mapping[str, str]) -> dict[str, Any]:
    base = {key: value for key, value in flatten(plan.base_data).items() if not key.startswith(_FREE)}
    varied = {dimension.key for dimension in plan.space.dimensions}
    return {
        **{f"base.{key}": value for key, value in base.items() if key not in varied},
        **{f"baseline.{key}": value for key, value in plan.baseline.items()},
        **{f"space.{one['name']}": one for one in plan.space.to_dict()},
        **{f"objective {index}": _objective(plan, index) for index in range(len(plan.objectives))},
        **{f"data.{name}": digest[:16] for name, digest in data_digests.items()},
    }


def _objective(plan: StudyPlan, index: int) -> dict[str, Any]:
    one = plan.objectives[index]
    return {"metric": [one.key] if one.key else one.model_metric, "direction": one.direction, "value": one.value}


def _shown(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
