"""What a study would do, found out with one epoch of training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from facerec.config.load import config_from_dict
from facerec.training.dry_run import describe_duration
from facerec.training.loop import train
from facerec.training.tracker import Tracker
from facerec.training.warm import WarmData
from facerec.tuning.bounds import check_baseline, model_facts
from facerec.tuning.plan import StudyPlan
from facerec.tuning.settings import lay_over
from facerec.tuning.storage import JOURNAL_NAME, shown_storage
from facerec.tuning.study import search_slots
from facerec.tuning.trial import report_config

__all__ = ["describe_study"]


def describe_study(plan: StudyPlan, *, workers: int, tracker: Tracker, tell: Callable[[str], None]) -> str:
    """Open the data, train the baseline for one epoch in a temporary folder, and say what would run and how long.

    Raises:
        FacerecError: whatever would stop the study before its first trial.
    """
    data = WarmData()
    data.pack(plan.base)
    for config in filter(None, (plan.base, report_config(plan))):
        data.pair_sets(config)
    facts = model_facts(plan.base, with_latency=plan.study.constraints.latency_ms is not None)
    check_baseline(plan, facts, tell=tell)
    tell("measuring one epoch of the baseline…")
    epoch_s, evaluation_s = _measure(plan, data, tracker)
    slots, epochs = len(search_slots(plan)), plan.base.training.epochs
    trial_s = epochs * epoch_s + max(1, epochs // plan.base.eval.eval_freq) * evaluation_s
    confirmations = 0 if plan.study.is_multi_objective else plan.study.confirm.top_k
    runs = (confirmations + 1) * plan.study.confirm.seeds if confirmations else 0
    goals = ", ".join(f"{one.direction} {one.label}" for one in plan.objectives)
    storage = plan.study.storage
    lines = [
        f"study      {plan.name}: {goals}",
        *(f"space      {one.key}: {one.describe()}" for one in plan.space.dimensions),
        f"size       {plan.space.describe_size()}, {slots} trials",
        f"baseline   {', '.join(f'{key}={value}' for key, value in plan.baseline.items())}",
        f"model      {facts['parameters'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.0f} MMACs",
        f"search     {plan.study.sampler.name}, pruner {plan.study.pruner.name}",
        f"confirm    {runs} trainings with fresh seeds{_few_seeds(plan) if runs else ''}",
        f"storage    {shown_storage(storage) if storage else plan.folder / JOURNAL_NAME}",
        f"one epoch  {epoch_s:.1f} s, one evaluation {evaluation_s:.1f} s, one trial of {epochs} epochs "
        f"{describe_duration(trial_s)}",
        f"estimate   {describe_duration((slots + runs) * trial_s / workers)} with {workers} workers, "
        "if nothing is pruned",
    ]
    return "\n".join(lines)


def _few_seeds(plan: StudyPlan) -> str:
    # Student's interval of two differences reaches 12.7 standard errors to each side, of three 4.3.
    few = plan.study.confirm.seeds == 2
    return "; with two seeds hardly any gain can be told from noise, so give three or more" if few else ""


def _measure(plan: StudyPlan, data: WarmData, tracker: Tracker) -> tuple[float, float]:
    """Seconds of one epoch and of one evaluation."""
    with tempfile.TemporaryDirectory(prefix="facerec-dry-run-") as folder:
        settings = {
            "training.epochs": 1,
            "training.warmup_epochs": 0.0,
            "training.early_stop": False,
            "checkpoint.save_dir": str(Path(folder) / "runs"),
            "logging.log_dir": str(Path(folder) / "logs"),
            "eval.before_training": True,
        }
        config = config_from_dict(lay_over(plan.base_data, settings), source="dry run")
        marks: list[float] = [time.perf_counter()]
        train(config, tracker=tracker, data=data, on_evaluation=lambda _: marks.append(time.perf_counter()))
    if len(marks) < 3:
        return marks[-1] - marks[0], 0.0
    evaluation_s = min(marks[1] - marks[0], marks[2] - marks[1]) / 2
    return max(0.0, marks[2] - marks[1] - evaluation_s), evaluation_s
