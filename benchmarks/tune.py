"""What tuning costs and what it gains.

``python benchmarks/tune.py regret``    TPE and random search at the same budget, on a noisy objective of known truth
``python benchmarks/tune.py overhead``  everything around the training of a trial, against the training
``python benchmarks/tune.py pruning``   epochs and best value of a study with and without its pruner
``python benchmarks/tune.py workers``   trials per second of two workers and of one, on an otherwise idle machine
``python benchmarks/tune.py eight``     eight workers on tiny trials: time, and whether every slot is settled once

``overhead``, ``pruning`` and ``workers`` train on the demo faces: ``facerec data demo data/orl``. ``--json`` prints the
claims as one object.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from claims import Claim, Target, absolute, ratio, show

from facerec.rng import counter_generator
from facerec.tracking.study import StudyRun
from facerec.training.interrupt import Interrupt
from facerec.tuning import trial as trial_module
from facerec.tuning.budget import spent_epochs
from facerec.tuning.confirm import confirmation_slots, judge_confirmation, read_candidates
from facerec.tuning.plan import StudyPlan, load_study
from facerec.tuning.slots import Slot, Table, counted_trials, results
from facerec.tuning.study import Opened, open_study, search_slots
from facerec.tuning.trial import Trainer
from facerec.tuning.worker import Job, Outcome, Phase, Runner, work

ROOT = Path(__file__).resolve().parents[1]
NOISE = 0.008
"""Standard deviation over seeds of the demo study's AUC, as its confirmations show it."""


def truth(values: dict[str, Any]) -> float:
    """A smooth score of margin, scale and learning rate, 0.95 at its best, in the shape of the demo's."""
    margin, scale, lr = values["head.margin"], values["head.scale"], values["training.lr"]
    wide = math.log10(lr / 0.12) + 0.4 * math.log10(scale / 20.0)
    return 0.95 - 0.25 * (margin - 0.2) ** 2 - 0.06 * math.log10(scale / 20.0) ** 2 - 0.05 * wide**2


def regret(options: argparse.Namespace) -> list[Claim]:
    """The true regret of the setting that a whole study, confirmation included, recommends."""
    rows: dict[str, list[float]] = {}
    for sampler in ("random", "tpe"):
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                plan = _plan(Path(folder), sampler=sampler, seed=seed, trials=options.trials)
                rows.setdefault(sampler, []).append(0.95 - truth(_recommended(plan, seed)))
    means = {
        sampler: f"{statistics.fmean(found):.5f} ± {statistics.stdev(found):.5f}" for sampler, found in rows.items()
    }
    low, high = _mean_ratio_interval(rows["tpe"], rows["random"])
    differences = [one - other for one, other in zip(rows["random"], rows["tpe"], strict=True)]
    error = statistics.stdev(differences) / math.sqrt(options.seeds)
    return [
        Claim(
            name=f"mean true regret of the recommended setting, {options.trials} trials, noise {NOISE}",
            value=statistics.fmean(rows["tpe"]) / statistics.fmean(rows["random"]),
            low=low,
            high=high,
            spread="95 % interval",
            rounds=options.seeds,
            ours=means["tpe"],
            other=means["random"],
            against="random search (± is the deviation over seeds)",
            target=Target(at_most=1.0),
            note=f"paired difference {statistics.fmean(differences):.5f} ± {error:.5f} (standard error); "
            f"seeds 0 to {options.seeds - 1}",
        )
    ]


def overhead(options: argparse.Namespace) -> list[Claim]:
    """The seconds of a trial outside of `train`, and their share of an ordinary trial."""
    trials = options.trials
    with tempfile.TemporaryDirectory() as folder:
        plan = _demo(Path(folder), trials=trials, changes=["training.epochs=1", "data.num_workers=0"])
        opened = open_study(plan, data_digests={})
        inside: list[tuple[float, float]] = []
        trial_module.train = _timed(trial_module.train, inside)
        started, processor = time.perf_counter(), time.process_time()
        _search(opened, Trainer(plan=plan, tracker=StudyRun(plan.base)))
        wall_s, processor_s = time.perf_counter() - started, time.process_time() - processor
    around = wall_s - sum(wall for wall, _ in inside), processor_s - sum(own for _, own in inside)
    epoch_s = statistics.median(wall for wall, _ in inside)
    ordinary_s = epoch_s * load_study(ROOT / "studies" / "demo.yaml").base.training.epochs
    per_trial_s = around[0] / trials
    own = f"{around[1] / trials:.3f} s of them processor time; mean over {trials} trials of one epoch"
    return [
        absolute("around the training of a tiny trial", [per_trial_s], unit="s", target=Target(at_most=0.5), note=own),
        ratio(
            "around the training of a trial",
            [per_trial_s],
            to=[ordinary_s],
            ours=f"{per_trial_s:.3f} s",
            other=f"{ordinary_s:.1f} s",
            against="a trial of the demo study",
            target=Target(at_most=0.02),
        ),
    ]


def pruning(options: argparse.Namespace) -> list[Claim]:
    """Epochs and the best value of the demo study with its pruner and without, a seed of the search per round."""
    found: dict[str, list[tuple[int, float]]] = {}
    for seed in range(options.rounds):
        for name in ("none", "hyperband"):
            found.setdefault(name, []).append(_searched(name, seed=seed, trials=options.trials))
    epochs, best = zip(*found["hyperband"], strict=True)
    all_epochs, other_best = zip(*found["none"], strict=True)
    name = f"demo study, {options.trials} trials, hyperband"
    seeds = f"seeds 0 to {options.rounds - 1} of the search"
    return [
        ratio(
            f"{name}: epochs",
            epochs,
            to=all_epochs,
            ours=f"{statistics.median(epochs):.0f} epochs",
            other=f"{statistics.median(all_epochs):.0f} epochs",
            against="no pruner",
            target=Target(at_most=0.5),
            note=seeds,
        ),
        absolute(
            f"{name}: gain of the best AUC",
            [one - other for one, other in zip(best, other_best, strict=True)],
            unit="in AUC",
            target=Target(at_least=-2 * NOISE),
            note=f"{statistics.median(best):.4f}, without a pruner {statistics.median(other_best):.4f}; the bound is "
            f"two deviations of the AUC over seeds; {seeds}",
        ),
    ]


def workers(options: argparse.Namespace) -> list[Claim]:
    """How many trials of one epoch two workers finish with a core each, against one with one core and with both."""
    alone, two, one = (
        _rate(count, options.seconds, threads=threads) for count, threads in ((1, 1), (2, None), (1, None))
    )
    note = f"{options.seconds:.0f} s of each; wants two free cores"
    ours = f"{two:.3f} trials/s"
    return [
        ratio(
            "trials/s of two workers, a core each",
            [two],
            to=[alone],
            ours=ours,
            other=f"{alone:.3f} trials/s",
            against="one worker on one core",
            target=Target(at_least=1.6),
            note=note,
        ),
        ratio(
            "trials/s of two workers, a core each",
            [two],
            to=[one],
            ours=ours,
            other=f"{one:.3f} trials/s",
            against="one worker that uses every core",
            note=note,
        ),
    ]


def eight(options: argparse.Namespace) -> list[Claim]:
    """Eight workers on a hundred trials of no work, counted."""
    from tests.tuning.synthetic import make_study, open_synthetic, start_worker

    slots = options.trials
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), budget={"trials": slots}, confirm={"top_k": 0})
        started = time.perf_counter()
        processes = [start_worker(study) for _ in range(8)]
        outputs = [process.communicate()[0] for process in processes]
        spent_s = time.perf_counter() - started
        settled = len(counted_trials(open_synthetic(study).search.trials()))
    failed = sum(process.returncode != 0 for process in processes)
    locks = sum("lock" in output.lower() for output in outputs)
    name = f"eight workers, {slots} slots"
    exact = Target(at_least=slots, at_most=slots)
    return [
        absolute(f"{name}: settled", [settled], unit="trials", target=exact, note=f"{spent_s:.1f} s with the starts"),
        absolute(f"{name}: failed workers and lock errors", [failed + locks], unit="errors", target=Target(at_most=0)),
    ]


def _mean_ratio_interval(ours: list[float], others: list[float]) -> tuple[float, float]:
    """A 95 % interval of the ratio of the means, by a bootstrap over the pairs."""
    pairs = np.array([ours, others])
    drawn = np.random.default_rng(0).integers(pairs.shape[1], size=(10_000, pairs.shape[1]))
    means = pairs[:, drawn].mean(axis=2)
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    return float(low), float(high)


def _plan(folder: Path, *, sampler: str, seed: int, trials: int) -> StudyPlan:
    plan = load_study(ROOT / "studies" / "demo.yaml", trials=trials)
    changes = {
        "folder": str(folder),
        "sampler": dataclasses.replace(plan.study.sampler, name=sampler, seed=seed, startup_trials=None),
        "pruner": dataclasses.replace(plan.study.pruner, name="none"),
        "confirm": dataclasses.replace(plan.study.confirm, top_k=3, seeds=3),
    }
    return dataclasses.replace(plan, study=dataclasses.replace(plan.study, **changes))


def _recommended(plan: StudyPlan, seed: int) -> dict[str, Any]:
    opened = open_study(plan, data_digests={})

    def run(job: Job) -> Outcome:
        draw = counter_generator(seed, job.number, job.attrs.get("facerec.seed", 0))
        return Outcome(values=(truth(job.values) + float(draw.normal(0.0, NOISE)),))

    _search(opened, run)
    slots = confirmation_slots(opened.search.trials(), plan)
    _work(opened, opened.confirmation, slots, run)
    candidates = read_candidates(opened.search.trials(), opened.confirmation.trials(), plan)
    verdict = judge_confirmation(candidates, plan)
    assert verdict is not None
    return verdict.winner.values


def _searched(pruner: str, *, seed: int, trials: int) -> tuple[int, float]:
    """The epochs that a search of the demo study has trained, and its best AUC."""
    with tempfile.TemporaryDirectory() as folder:
        plan = _demo(Path(folder), trials=trials, pruner=pruner, seed=seed)
        opened = open_study(plan, data_digests={})
        _search(opened, Trainer(plan=plan, tracker=StudyRun(plan.base)))
        counted = counted_trials(opened.search.trials())
    best = max(results(one)[0] for one in counted if one.state.name == "COMPLETE")
    return spent_epochs(counted), best


def _demo(
    folder: Path, *, trials: int, changes: list[str] | None = None, pruner: str = "none", seed: int = 0
) -> StudyPlan:
    overrides = ["logging.mlflow=false"]
    plan = load_study(ROOT / "studies" / "demo.yaml", trials=trials, overrides=overrides)
    base = dict(plan.base_data)
    for text in changes or []:
        key, _, value = text.partition("=")
        section, _, name = key.partition(".")
        base[section] = base[section] | {name: int(value)}
    if changes:
        base["training"] = base["training"] | {"warmup_epochs": 0.0}
    settings = {
        "folder": str(folder),
        "sampler": dataclasses.replace(plan.study.sampler, seed=seed),
        "pruner": dataclasses.replace(plan.study.pruner, name=pruner),
        "confirm": dataclasses.replace(plan.study.confirm, top_k=0),
    }
    return dataclasses.replace(plan, base_data=base, study=dataclasses.replace(plan.study, **settings))


def _search(opened: Opened, run: Runner) -> None:
    _work(opened, opened.search, search_slots(opened.plan), run)


def _work(opened: Opened, table: Table, slots: list[Slot], run: Runner) -> None:
    is_search = table is opened.search
    phase = Phase(name="trial", plan=opened.plan, table=table, slots=slots, run=run, is_search=is_search)
    with Interrupt() as stop:
        work(phase, stop)


def _timed(function: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spans.append((time.perf_counter() - wall, time.process_time() - processor))

    return call


def _rate(count: int, seconds: float, *, threads: int | None) -> float:
    """Finished trials per second; `threads` of torch in each worker, by default its share of the cores."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        text = (ROOT / "studies" / "demo.yaml").read_text().replace("top_k: 2", "top_k: 0")
        study = Path(folder) / "demo.yaml"
        study.write_text(f"{text}\nfolder: {folder}\n")
        changes = "logging.mlflow=false training.epochs=1 training.warmup_epochs=0 data.num_workers=0"
        command = [sys.executable, "-m", "facerec", "tune", "--study", str(study), "--trials", "1000"]
        command += ["--workers", str(count), "--set", changes]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        journal = Path(folder) / "demo" / "journal.log"
        _wait_for(process, journal, count=2 * count)
        before, started = _finished(journal), time.perf_counter()
        time.sleep(seconds)
        _wait_for(process, journal, count=before + 1)
        rate = (_finished(journal) - before) / (time.perf_counter() - started)
        process.terminate()
        process.wait()
    return rate


def _wait_for(process: subprocess.Popen[bytes], journal: Path, *, count: int) -> None:
    """Wait for so many finished trials."""
    while _finished(journal) < count:
        if process.poll() is not None:
            raise SystemExit(f"facerec tune has ended with exit code {process.returncode}")
        time.sleep(0.2)


def _finished(journal: Path) -> int:
    return journal.read_text().count('"datetime_complete":"') if journal.is_file() else 0


PARTS: dict[str, tuple[Callable[[argparse.Namespace], list[Claim]], int]] = {
    "regret": (regret, 40),
    "overhead": (overhead, 10),
    "pruning": (pruning, 16),
    "workers": (workers, 1000),
    "eight": (eight, 100),
}
"""Each with its number of trials."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    part, trials = PARTS[options.what]
    options.trials = options.trials or trials
    if options.what in ("overhead", "pruning", "workers") and not (ROOT / "data" / "orl" / "train.rec").is_file():
        parser.error("the demo faces are missing; make them: facerec data demo data/orl")
    os.chdir(ROOT)  # The study names its data from here.
    print(show(part(options), {}, as_json=options.json))


if __name__ == "__main__":
    main()
