"""What a study found: counts, tables, pictures, the tuned configuration, and the sentence at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facerec.config.load import config_from_dict, dump_yaml
from facerec.fsio import atomic_write_text
from facerec.tuning.budget import spent_epochs
from facerec.tuning.confirm import Candidate, Verdict, judge_confirmation, read_candidates, slot_key
from facerec.tuning.pictures import importances, not_in_all_trials, write_pictures
from facerec.tuning.plan import StudyPlan
from facerec.tuning.progress import Progress, progress_of
from facerec.tuning.slots import SLOT_ATTR, counted_trials, is_lost, is_void, results
from facerec.tuning.study import Opened, search_slots
from facerec.tuning.tables import candidates_markdown, trials_csv, trials_markdown
from facerec.tuning.tracker import StudyTracker

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = [
    "StudyReport",
    "build_report",
    "describe_report",
    "report_to_json",
    "tuned_yaml",
    "verdict_sentence",
    "write_report",
]

BEST_NAME = "best.yaml"

_TUNING_PAIRS = "on the tuning pairs themselves, which have chosen the setting and the epoch"


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study found."""

    plan: StudyPlan
    counts: dict[str, int]
    """Slots by how they ended, trials lost to dead workers, and epochs trained."""
    best: FrozenTrial | None
    """The best trial of the search; its value is optimistic."""
    candidates: list[Candidate]
    verdict: Verdict | None
    front: list[FrozenTrial]
    """Several objectives only: the trials that no other surpasses in all."""
    importances: dict[str, float]
    not_judged: list[str]
    """Parameters that only some trials have, of which the importances say nothing."""
    kept_slots: frozenset[str]
    """Slots whose weights are kept."""
    progress: Progress

    @property
    def winner(self) -> tuple[int, dict[str, Any]] | None:
        """The trial whose setting is the tuned one, and that setting; None without a complete trial."""
        if self.verdict is not None:
            return self.verdict.winner.number, self.verdict.winner.values
        if self.best is None or self.front:
            return None
        return self.best.number, self.plan.space.from_params(self.best.params)


def build_report(opened: Opened) -> StudyReport:
    """Read the storage and judge."""
    plan, trials = opened.plan, opened.search.trials()
    holders = counted_trials(trials)
    standing = opened.search.stand(search_slots(plan))
    states = [trial.state.name for trial in standing.settled]
    counts = {
        "trials": len(standing.settled),
        "complete": states.count("COMPLETE"),
        "pruned": states.count("PRUNED"),
        "failed": states.count("FAIL"),
        "running": len(standing.running),
        "to do": len(standing.waiting) + len(standing.missing),
        "given up": len(standing.given_up),
        "lost and repeated": sum(map(is_lost, trials)),
        "void": sum(map(is_void, trials)),
        "epochs": spent_epochs(holders),
    }
    several = plan.study.is_multi_objective
    complete = [trial for trial in holders if trial.state.name == "COMPLETE"]
    best = None if several else max(complete, key=lambda one: plan.objective.sign * results(one)[0], default=None)
    candidates = [] if several else read_candidates(trials, opened.confirmation.trials(), plan)
    is_confirmed = not several and plan.study.confirm.top_k > 0
    verdict = judge_confirmation(candidates, plan) if is_confirmed else None
    front = opened.search.study.best_trials if several and complete else []
    kept = {best.user_attrs[SLOT_ATTR]} if best is not None else {trial.user_attrs[SLOT_ATTR] for trial in front}
    if verdict is not None and verdict.winner.by_seed:
        kept.add(slot_key(verdict.winner.number, min(verdict.winner.by_seed)))
    return StudyReport(
        plan=plan,
        counts=counts,
        best=best,
        candidates=candidates,
        verdict=verdict,
        front=front,
        importances=importances(opened.search.study),
        not_judged=[] if several else not_in_all_trials(opened.search.study),
        kept_slots=frozenset(kept),
        progress=progress_of(opened),
    )


def write_report(opened: Opened, tracker: StudyTracker) -> StudyReport:
    """Write tables, pictures and configurations into the study's folder and hand them to the tracker."""
    report = build_report(opened)
    plan, folder = opened.plan, opened.plan.folder
    text = describe_report(report)
    trials = opened.search.trials()
    atomic_write_text(folder / "trials.csv", trials_csv(trials, plan))
    markdown = f"# Study {plan.name}\n\n```\n{text}\n```\n\n{candidates_markdown(report.candidates, plan)}\n"
    atomic_write_text(folder / "report.md", f"{markdown}\n## Trials\n\n{trials_markdown(trials, plan)}\n")
    atomic_write_text(folder / "report.json", json.dumps(report_to_json(report), indent=2, ensure_ascii=False) + "\n")
    for path in (*(folder / name for name in ("trials.csv", "report.md", "report.json")), *_write_configs(report)):
        tracker.log_file(path)
    tracker.log_metrics(_metrics(report), step=0)
    tracker.set_tags({"mlflow.note.content": markdown[:7900], "facerec.verdict": verdict_sentence(report)})
    # Last, so that a plot that fails costs no result.
    for picture in write_pictures(opened.search.study, folder / "pictures", label=plan.objective.label):
        tracker.log_file(picture, folder="pictures")
    return report


def tuned_yaml(plan: StudyPlan, values: dict[str, Any], *, comment: str) -> str:
    """The configuration of a setting as YAML that ``facerec train`` takes, under a comment."""
    config = config_from_dict(plan.config_data(values), source=f"study {plan.name}")
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return f"{lines}{dump_yaml(config)}"


def describe_report(report: StudyReport) -> str:
    """The report as text for a terminal."""
    plan, counts = report.plan, report.counts
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name != "trials")
    lines = [f"study {plan.name}: {counts['trials']} of {len(search_slots(plan))} trials settled ({told})"]
    if report.front:
        lines.append("best compromises (no trial is better in all objectives):")
        lines += [f"  trial {trial.number}: {_objectives_text(report, trial)}" for trial in report.front]
    elif report.best is not None:
        value = results(report.best)[0]
        lines.append(
            f"search's own best: {plan.objective.label} {value:.4f} (trial {report.best.number}), "
            "optimistic: the best of many noisy values"
        )
    if report.verdict is not None:
        lines.append(f"confirmed over fresh seeds{_on_which(plan)}:")
        lines += [f"  {_candidate_text(one)}" for one in report.candidates if one.by_seed]
    if report.importances:
        listed = ", ".join(f"{name} {share:.2f}" for name, share in report.importances.items())
        lines.append(f"importance (fANOVA): {listed}")
        if report.not_judged:
            lines.append(f"not judged, because only some trials have them: {', '.join(report.not_judged)}")
    winner = report.winner
    if winner is not None:
        setting = ", ".join(f"{key}={_number(value)}" for key, value in winner[1].items())
        lines.append(f"tuned: {setting}")
        lines.append(f"tuned configuration: {plan.study.export or plan.folder / BEST_NAME}")
    lines.append(verdict_sentence(report))
    return "\n".join(lines)


def verdict_sentence(report: StudyReport) -> str:
    """Whether the tuned setting is better, and how sure that is."""
    if report.verdict is not None:
        return f"{_what_is_left(report.progress)}{report.verdict.sentence}"
    if report.front:
        return f"{len(report.front)} compromises; `facerec tune export` writes one of them with --trial"
    if report.best is None:
        return "no trial has completed, so there is nothing to recommend"
    if report.plan.study.confirm.top_k and report.counts["to do"]:
        return "the study is not finished; nothing has been confirmed"
    return "nothing has been confirmed, so the best value is optimistic and may be luck"


def report_to_json(report: StudyReport) -> dict[str, Any]:
    """The report as plain data."""
    verdict, winner = report.verdict, report.winner
    return {
        "study": report.plan.name,
        "objectives": [{"metric": one.label, "direction": one.direction} for one in report.plan.objectives],
        "counts": report.counts,
        "search_best": None
        if report.best is None
        else {"trial": report.best.number, "value": results(report.best)[0], "optimistic": True},
        "front": [{"trial": trial.number, "values": results(trial)} for trial in report.front],
        "candidates": [
            {
                "trial": one.number,
                "baseline": one.is_baseline,
                "setting": one.values,
                "search_value": one.search_value,
                "mean": one.mean,
                "std": one.std,
                "by_seed": {str(seed): value for seed, value in one.by_seed.items()},
            }
            for one in report.candidates
        ],
        "importances": report.importances,
        "not_in_importances": report.not_judged,
        "winner": None if winner is None else {"trial": winner[0], "setting": winner[1]},
        "gain": None if verdict is None else verdict.gain,
        "interval": None if verdict is None or verdict.interval is None else list(verdict.interval),
        "final": report.progress.is_over,
        "exceeds_noise": verdict.exceeds_noise if verdict is not None and report.progress.is_over else None,
        "sentence": verdict_sentence(report),
    }


def _write_configs(report: StudyReport) -> list[Path]:
    plan, winner = report.plan, report.winner
    written: list[Path] = []
    if winner is not None:
        comment = f"Study {plan.name}, trial {winner[0]}.\n{verdict_sentence(report)}"
        text = tuned_yaml(plan, winner[1], comment=comment)
        for path in (plan.folder / BEST_NAME, *([Path(plan.study.export)] if plan.study.export else [])):
            atomic_write_text(path, text)
        written.append(plan.folder / BEST_NAME)
    for trial in report.front:
        path = plan.folder / "front" / f"trial_{trial.number}.yaml"
        comment = f"Study {plan.name}, trial {trial.number}: {_objectives_text(report, trial)}"
        atomic_write_text(path, tuned_yaml(plan, plan.space.from_params(trial.params), comment=comment))
        written.append(path)
    return written


def _metrics(report: StudyReport) -> dict[str, float]:
    label = report.plan.objective.label.rsplit("/", 1)[-1]
    metrics = {f"study/{name.replace(' ', '_')}": float(count) for name, count in report.counts.items()}
    if report.best is not None:
        metrics[f"study/search_best_{label}_optimistic"] = results(report.best)[0]
    for one in report.candidates:
        if one.mean is not None and one.std is not None and (one.is_baseline or _is_winner(report, one)):
            who = "baseline" if one.is_baseline else "confirmed"
            metrics |= {f"study/{who}_{label}_mean": one.mean, f"study/{who}_{label}_std": one.std}
    return metrics | {f"importance/{name}": share for name, share in report.importances.items()}


def _is_winner(report: StudyReport, one: Candidate) -> bool:
    return report.verdict is not None and report.verdict.winner.number == one.number


def _what_is_left(progress: Progress) -> str:
    if progress.is_over:
        return ""
    if progress.is_search_over:
        return f"{progress.confirmed} of {progress.to_confirm} confirmations done, not final: "
    return "the search goes on, not final: "


def _candidate_text(one: Candidate) -> str:
    who = "baseline" if one.is_baseline else f"trial {one.number}"
    spread = f" ± {one.std:.4f}" if one.std is not None else ""
    searched = f", search saw {one.search_value:.4f}" if one.search_value is not None else ""
    return f"{who}: {one.mean:.4f}{spread} over {len(one.by_seed)} seeds{searched}"


def _objectives_text(report: StudyReport, trial: FrozenTrial) -> str:
    pairs = zip(report.plan.objectives, results(trial), strict=True)
    return ", ".join(f"{objective.label} {value:.4g}" for objective, value in pairs)


def _on_which(plan: StudyPlan) -> str:
    return " on pairs that the search never saw" if plan.study.report.files else f" {_TUNING_PAIRS}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
