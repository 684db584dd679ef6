"""A trial as a real training, through the same loop as ``facerec train``."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.errors import CheckpointError, MissingPathError, TrainingError
from facerec.evaluation.result import metric_values
from facerec.evaluation.suites import evaluate_configured
from facerec.models.build import build_backbone
from facerec.models.device import resolve_device
from facerec.models.measure import measure
from facerec.models.weights import load_backbone
from facerec.training.history import Evaluation
from facerec.training.launch import SECONDS_TO_SAVE
from facerec.training.loop import train
from facerec.training.record import TrainResult
from facerec.training.run_folder import checkpoint_to_resume, latest_run, lock_run
from facerec.training.warm import WarmData
from facerec.tuning.budget import EPOCHS_ATTR
from facerec.tuning.confirm import REPORT_ATTR, SEED_ATTR
from facerec.tuning.history import history_before, read_history
from facerec.tuning.metric import MODEL_METRICS, Objective
from facerec.tuning.plan import StudyPlan
from facerec.tuning.processes import train_in_processes
from facerec.tuning.settings import lay_over
from facerec.tuning.tracker import StudyTracker
from facerec.tuning.worker import Infeasible, Job, Outcome

__all__ = ["FOLDER_ATTR", "RUN_ATTR", "Trainer", "drop_checkpoints", "model_facts", "report_config"]

FOLDER_ATTR = "facerec.run_folder"
RUN_ATTR = "facerec.run_id"

_LATENCY_RUNS = 15


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
        bounds = {name: bound for name in MODEL_METRICS if (bound := getattr(self.plan.study.constraints, name))}
        wanted = {*bounds, *(one.model_metric for one in self.plan.objectives if one.model_metric)}
        facts = self._model_facts(config, wanted)
        for name, bound in bounds.items():
            job.constrain(name, facts[name] - bound)
        broken = [f"{name} {facts[name]:g} is above {bound:g}" for name, bound in bounds.items() if facts[name] > bound]
        if broken:
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
        name = f"{kind} {job.slot}"
        tags = {"facerec.study": self.plan.name, "facerec.trial": str(job.number), "facerec.kind": kind}
        if self.plan.study.nproc > 1:
            logging = {"run_name": name, "tags": {**config.logging.tags, **tags, **self.tracker.parent_tags()}}
            spread = dataclasses.replace(config, logging=dataclasses.replace(config.logging, **logging))
            folder = train_in_processes(spread, processes=self.plan.study.nproc, on_evaluation=watch)
            return folder, self._report(config, folder)
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
            chosen = objective.choose(evaluations)
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


def model_facts(config: Config, *, with_latency: bool) -> dict[str, float]:
    """Parameters, multiply-accumulates and, where asked for, the latency of a configuration's backbone."""
    with torch.device("meta"):
        size = measure(build_backbone(config.model, image_hw=config.image_hw), image_hw=config.image_hw)
    facts = {"parameters": float(size.params), "macs": float(size.macs)}
    if with_latency:
        facts["latency_ms"] = _latency_ms(config)
    return facts


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


def _latency_ms(config: Config) -> float:
    device = resolve_device(config.device)
    backbone = build_backbone(config.model, image_hw=config.image_hw).to(device).eval()
    image_BCHW = torch.zeros(1, 3, *config.image_hw, device=device)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(_LATENCY_RUNS + 3):
            started = time.perf_counter()
            backbone(image_BCHW)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])
