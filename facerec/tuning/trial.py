"""A trial as a real training, through the same loop as ``facerec train``."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.errors import CheckpointError, MissingPathError, TrainingError
from facerec.evaluation.result import metric_values
from facerec.evaluation.suites import evaluate_configured
from facerec.models.device import resolve_device
from facerec.models.weights import load_backbone
from facerec.training.history import Evaluation
from facerec.training.launch import SECONDS_TO_SAVE
from facerec.training.loop import train
from facerec.training.record import TrainResult
from facerec.training.run_folder import checkpoint_to_resume, latest_run, lock_run
from facerec.training.warm import WarmData
from facerec.tuning.bounds import bounds_of, broken_bounds, model_facts
from facerec.tuning.budget import EPOCHS_ATTR
from facerec.tuning.confirm import REPORT_ATTR, SEED_ATTR
from facerec.tuning.history import history_before, read_history, recorded_run
from facerec.tuning.metric import Objective
from facerec.tuning.plan import StudyPlan
from facerec.tuning.processes import train_in_processes
from facerec.tuning.settings import lay_over
from facerec.tuning.tracker import StudyTracker
from facerec.tuning.trial_run import FOLDER_ATTR, RUN_ATTR, run_name, run_tags
from facerec.tuning.worker import Infeasible, Job, Outcome

__all__ = ["Trainer", "drop_checkpoints", "report_config"]


@dataclass(kw_only=True)
class Trainer:
    """Runs trials; keeps packs, pair sets and facts of models between them."""

    plan: StudyPlan
    tracker: StudyTracker
    is_confirmation: bool = False
    data: WarmData = field(default_factory=WarmData)
    _facts: dict[str, dict[str, float]] = field(default_factory=dict)

    def __call__(self, job: Job) -> Outcome:
        """Train one setting; see `facerec.tuning.worker.Runner`."""
        config = self._configure(job)
        facts = self._check_constraints(config, job)
        job.note(FOLDER_ATTR, config.checkpoint.save_dir)
        self._tell_what_came_before(config, job)
        run_folder, reported = self._train(config, job)
        return self._outcome(read_history(run_folder), facts, reported=reported)

    def _configure(self, job: Job) -> Config:
        place = self.plan.folder / ("confirm" if self.is_confirmation else "trials") / job.slot
        data = self.plan.config_data(job.values)
        settings: dict[str, Any] = {
            "checkpoint.save_dir": str(place),
            "logging.log_dir": str(self.plan.folder / "logs" / job.slot),
            "training.resume": _resumable(place) if job.is_retry else False,
        }
        if self.is_confirmation:
            settings["seed"] = job.attrs[SEED_ATTR]
        return config_from_dict(lay_over(data, settings), source=f"trial {job.number}")

    def _check_constraints(self, config: Config, job: Job) -> dict[str, float]:
        bounds = bounds_of(self.plan.study.constraints)
        wanted = {*bounds, *(one.model_metric for one in self.plan.objectives if one.model_metric)}
        facts = self._model_facts(config, wanted)
        for name, bound in bounds.items():
            job.constrain(name, facts[name] - bound)
        if broken := broken_bounds(facts, self.plan.study.constraints):
            raise Infeasible("not trained: " + "; ".join(broken))
        return facts

    def _model_facts(self, config: Config, wanted: set[str]) -> dict[str, float]:
        if not wanted:
            return {}
        key = json.dumps([vars(config.model), config.image_hw, config.device], default=str)
        if key not in self._facts:
            self._facts[key] = model_facts(config, with_latency="latency_ms" in wanted)
        return self._facts[key]

    def _tell_what_came_before(self, config: Config, job: Job) -> None:
        """Let the pruner know of the epochs that the trial has already trained."""
        objective = self.plan.objective
        if not config.training.resume or not objective.key:
            return
        for evaluation in history_before(Path(str(config.training.resume))):
            value = objective.of(evaluation)
            if evaluation.epoch > 0 and value is not None:
                job.report(evaluation.epoch, value)

    def _train(self, config: Config, job: Job) -> tuple[Path, dict[str, float]]:
        """Train; the run's folder, and the metrics on the reporting pairs where they count."""
        watch = _watcher(self.plan.objective if self.plan.objective.key else None, job)
        kind = "confirmation" if self.is_confirmation else "trial"
        name, tags = run_name(kind, job.slot), run_tags(self.plan, kind=kind, number=job.number)
        if self.plan.study.nproc > 1:
            logging = {"run_name": name, "tags": {**config.logging.tags, **tags, **self.tracker.parent_tags()}}
            spread = dataclasses.replace(config, logging=dataclasses.replace(config.logging, **logging))
            noting = _noting_run(watch, job, save_dir=Path(config.checkpoint.save_dir))
            folder = train_in_processes(spread, processes=self.plan.study.nproc, on_evaluation=noting)
            return folder, self._report_into(recorded_run(folder), config, folder)
        tracker = self.tracker.trial(
            name=name,
            tags=tags,
            keeps_pictures=self.is_confirmation,
            on_start=lambda run_id: job.note(RUN_ATTR, run_id),
        )
        reported: dict[str, float] = {}

        def report(result: TrainResult) -> None:
            counted = result.best if self.plan.objective.value == "best" else result.last
            reported.update(self._report(config, result.run_folder))
            tracker.log_metrics(reported, step=counted.epoch if counted is not None else 0)

        result = train(config, tracker=tracker, on_evaluation=watch, data=self.data, before_finish=report)
        return result.run_folder, reported

    def _report_into(self, run_id: str | None, config: Config, run_folder: Path) -> dict[str, float]:
        """The metrics on the reporting pairs, recorded in a run that other processes have opened and closed."""
        reported = self._report(config, run_folder)
        counted = self.plan.objective.choose(read_history(run_folder), min_delta=config.training.min_delta)
        if run_id is not None and reported:
            self.tracker.add_metrics(run_id, reported, step=counted.epoch if counted is not None else 0)
        return reported

    def _report(self, config: Config, run_folder: Path) -> dict[str, float]:
        """The metrics of the checkpoint that counts, on pairs that chose neither its setting nor its epoch."""
        pairs = report_config(self.plan) if self.is_confirmation else None
        if pairs is None:
            return {}
        device = resolve_device(config.device)
        loaded = load_backbone(run_folder / self.plan.objective.value, config=config, device=device)
        results = evaluate_configured(loaded.backbone, self.data.pair_sets(pairs), config=config, device=device)
        return metric_values(results)

    def _outcome(
        self, evaluations: list[Evaluation], facts: dict[str, float], *, reported: dict[str, float]
    ) -> Outcome:
        searched, confirmed = [], []
        for objective in self.plan.objectives:
            if objective.model_metric:
                searched.append(facts[objective.model_metric])
                confirmed.append(facts[objective.model_metric])
                continue
            chosen = objective.choose(evaluations, min_delta=self.plan.base.training.min_delta)
            if chosen is None:
                raise TrainingError(f"no evaluation gave a finite {objective.label}")
            searched.append(_value(objective, chosen))
            judged = dataclasses.replace(chosen, metrics={**chosen.metrics, **reported})
            confirmed.append(_value(objective, judged, report=self.is_confirmation))
        epochs = max((evaluation.epoch for evaluation in evaluations), default=0)
        attrs: dict[str, Any] = {EPOCHS_ATTR: epochs, **{f"facerec.{name}": value for name, value in facts.items()}}
        if self.is_confirmation:
            attrs[REPORT_ATTR] = confirmed
        return Outcome(values=tuple(searched), attrs=attrs)


def report_config(plan: StudyPlan) -> Config | None:
    """The baseline with the reporting pairs in place of the tuning pairs; None where the study names none."""
    if not plan.study.report.files:
        return None
    pairs = {"eval.bin_file": list(plan.study.report.files), "eval.dataset": None}
    return config_from_dict(lay_over(plan.base_data, pairs), source="report.bin_file")


def drop_checkpoints(save_dir: Path) -> None:
    """Remove the weights of a trial's runs; configuration, history and summary stay."""
    for run in save_dir.glob("[0-9]*_[0-9]*"):
        for link in ("best", "last"):
            (run / link).unlink(missing_ok=True)
        for checkpoint in run.glob("step-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _watcher(objective: Objective | None, job: Job) -> Callable[[Evaluation], None]:
    def watch(evaluation: Evaluation) -> None:
        value = None if objective is None else objective.of(evaluation)
        if evaluation.epoch == 0 or value is None or objective is None:
            return
        if not math.isfinite(value):
            raise TrainingError(f"{objective.label} is {value} after epoch {evaluation.epoch}")
        job.report(evaluation.epoch, value)

    return watch


def _noting_run(watch: Callable[[Evaluation], None], job: Job, *, save_dir: Path) -> Callable[[Evaluation], None]:
    """``watch``, which first keeps with the trial what run its processes have opened, for whoever finds it lost."""
    noted: set[str] = set()

    def note_and_watch(evaluation: Evaluation) -> None:
        run_id = None if noted else recorded_run(latest_run(save_dir))
        if run_id is not None:
            noted.add(run_id)
            job.note(RUN_ATTR, run_id)
        watch(evaluation)

    return note_and_watch


def _resumable(save_dir: Path) -> str | bool:
    """The checkpoint to go on from, or False where the dead worker left none on this machine."""
    try:
        _wait_until_free(latest_run(save_dir))
        return str(checkpoint_to_resume(True, save_dir=save_dir))
    except (MissingPathError, CheckpointError):
        return False


def _wait_until_free(run: Path) -> None:
    """Wait for the processes of a worker that was killed: they save before they end."""
    deadline_s = time.monotonic() + SECONDS_TO_SAVE + 30
    while time.monotonic() < deadline_s:
        try:
            with lock_run(run):
                return
        except TrainingError:
            time.sleep(0.5)


def _value(objective: Objective, evaluation: Evaluation, *, report: bool = False) -> float:
    value = objective.of(evaluation, report=report)
    if value is None or not math.isfinite(value):
        raise TrainingError(f"the evaluation of epoch {evaluation.epoch} gave no finite {objective.label}")
    return value
