"""A study by its file, its folder or its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.errors import MissingPathError, UsageError, near_match
from facerec.tuning.owner import Watch
from facerec.tuning.plan import StudyPlan, load_study, plan_from_dict
from facerec.tuning.slots import Table
from facerec.tuning.storage import JOURNAL_NAME, open_storage, shown_storage
from facerec.tuning.study import DEFINITION_ATTR, Opened

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["config_of_trial", "find_study", "setting_of_trial"]

_DEFAULT_FOLDER = "tuning"


def find_study(text: str, *, storage: str | None = None) -> Opened:
    """Open an existing study: a study file, a study's folder, or a name under ``tuning/`` or in ``storage``.

    Raises:
        MissingPathError: there is no such study.
    """
    name, url, folder = _place(text, storage)
    journal = folder / JOURNAL_NAME if url is None else Path(url)
    if (url is None or "://" not in url) and not journal.is_file():
        known = [path.parent.name for path in Path(_DEFAULT_FOLDER).glob(f"*/{JOURNAL_NAME}")]
        raise MissingPathError(
            f"there is no study '{text}'{near_match(text, known)}: {journal} does not exist; give a study file, its "
            "folder, its name, or --storage"
        )
    return _open(name, url, folder)


def setting_of_trial(opened: Opened, number: int) -> tuple[StudyPlan, dict[str, object], FrozenTrial]:
    """The setting of a trial of the search.

    Raises:
        UsageError: there is no such trial, or it has not drawn its setting.
    """
    trials = {trial.number: trial for trial in opened.search.trials()}
    trial = trials.get(number)
    if trial is None:
        raise UsageError(f"study {opened.plan.name} has no trial {number}; it has {len(trials)}, counted from 0")
    if trial.user_attrs.get("facerec.baseline"):
        return opened.plan, opened.plan.baseline, trial
    if not trial.params:
        raise UsageError(f"trial {number} of study {opened.plan.name} has not begun, so it has no setting yet")
    return opened.plan, opened.plan.space.from_params(trial.params), trial


def config_of_trial(text: str, *, storage: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of ``STUDY:N``, trial N of a study that `find_study` finds in ``storage``, with overrides.

    Raises:
        UsageError: the text is no such pair, or there is no such trial.
        ConfigError: an override cannot be used.
    """
    study, separator, number = text.rpartition(":")
    if not separator or not number.isdecimal():
        raise UsageError(f"--from-trial {text}: write STUDY:N, such as tuning/demo:7")
    plan, values, _ = setting_of_trial(find_study(study, storage=storage), int(number))
    return config_from_dict(plan.config_data(values), overrides=overrides, source=f"trial {number} of {study}")


def _place(text: str, storage: str | None) -> tuple[str, str | None, Path]:
    """Name, storage and folder."""
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        plan = load_study(path, storage=storage)
        return plan.name, plan.study.storage, plan.folder
    folder = path if path.is_dir() else Path(_DEFAULT_FOLDER) / text
    return folder.name, storage, folder


def _open(name: str, url: str | None, folder: Path) -> Opened:
    import optuna

    storage = open_storage(url, folder=folder)
    try:
        search = optuna.load_study(study_name=name, storage=storage)
        confirmation = optuna.load_study(study_name=f"{name}:confirmation", storage=storage)
    except KeyError as error:
        names = optuna.get_all_study_names(storage)
        where = shown_storage(url) if url else folder
        raise MissingPathError(
            f"{where} has no study '{name}'{near_match(name, names)}; has it been started?"
        ) from error
    plan = plan_from_dict(search.user_attrs[DEFINITION_ATTR])
    watch = Watch(silence_s=plan.study.recovery.silence_s)
    tables = [
        Table(study, storage, folder=folder, retries=plan.study.recovery.retries, watch=watch)
        for study in (search, confirmation)
    ]
    return Opened(plan=plan, storage=storage, search=tables[0], confirmation=tables[1])
