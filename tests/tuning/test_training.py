"""Studies of real, tiny trainings: values, pruning, warm data, runs, configurations that train takes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from facerec.config.load import load_config
from facerec.data.pairs import read_pairs
from facerec.errors import ConfigError, FacerecError
from facerec.evaluation.suites import evaluate_configured
from facerec.models.weights import load_backbone
from facerec.tracking.study import StudyRun
from facerec.training.history import Evaluation
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.training.loop import train
from facerec.training.run_folder import latest_run, lock_run
from facerec.training.warm import WarmData
from facerec.tuning.history import read_history
from facerec.tuning.locate import config_of_trial, find_study
from facerec.tuning.plan import StudyPlan, load_study
from facerec.tuning.report import StudyReport, describe_report
from facerec.tuning.run import run_study
from facerec.tuning.study import open_study, search_slots
from facerec.tuning.trial import Trainer, _wait_until_free
from facerec.tuning.winner import winner_run
from facerec.tuning.worker import Job, Outcome, Phase, work
from tests.packs import write_pack, write_pair_set

pytestmark = pytest.mark.slow


def write_base(folder: Path) -> Path:
    pack = write_pack(folder / "pack", identities=4, pictures=8)
    write_pair_set(pack / "tune.bin", pairs=20)
    write_pair_set(pack / "report.bin", pairs=24)
    settings = {
        "model": {"backbone": "iresnet_mini", "embedding_size": 16},
        "head": {"scale": 16.0, "margin": 0.2},
        "data": {"root": str(pack), "batch_size": 16, "img_size": 32, "num_workers": 0},
        "training": {"epochs": 2, "lr": 0.05, "amp": False},
        "checkpoint": {"save_dir": str(folder / "runs")},
        "logging": {"log_dir": str(folder / "logs"), "mlflow": False},
        "eval": {"bin_file": "tune.bin"},
        "device": "cpu",
    }
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def write_study(folder: Path, **changes: Any) -> Path:
    data = {
        "study": "tiny",
        "base": str(folder / "base.yaml"),
        "objective": {"metric": "auc"},
        "space": {"head.margin": {"float": [0.0, 0.5]}, "training.lr": {"float": [0.01, 0.2], "log": True}},
        "budget": {"trials": 3},
        "pruner": {"name": "none"},
        "confirm": {"top_k": 1, "seeds": 2},
        "folder": str(folder / "tuning"),
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def run(plan: StudyPlan, told: list[str] | None = None) -> StudyReport:
    return run_study(plan, tracker=StudyRun(plan.base), tell=(told if told is not None else []).append)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyReport, Path]:
    folder = tmp_path_factory.mktemp("study")
    write_base(folder)
    report = run(load_study(write_study(folder, report={"bin_file": "report.bin"})))
    return report, folder


def test_a_study_ends_with_counts_a_verdict_pictures_and_tables(finished: tuple[StudyReport, Path]) -> None:
    report, folder = finished
    study = folder / "tuning" / "tiny"
    assert report.counts["complete"] == 3
    assert report.verdict is not None
    assert {path.stem for path in (study / "pictures").glob("*.png")} >= {"history", "edf", "timeline", "slice"}
    rows = list(csv.DictReader(io.StringIO((study / "trials.csv").read_text())))
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert [row["epochs"] for row in rows] == ["2"] * 3
    assert json.loads((study / "report.json").read_text())["search_best"]["optimistic"] is True
    text = describe_report(report)
    assert "optimistic" in text
    assert "on pairs that the search never saw" in text
    assert "over 2 seeds" in text


def test_trial_0_has_the_value_that_train_gives_the_base_configuration(finished: tuple[StudyReport, Path]) -> None:
    _, folder = finished
    config = load_config(folder / "base.yaml", ["training.monitor=auc"])
    result = train(config, tracker=StudyRun(config).trial(name="x", tags={}, keeps_pictures=True, on_start=print))
    assert result.best is not None
    opened = find_study(str(folder / "tuning" / "tiny"))
    assert opened.search.trials()[0].values == [result.best.metrics["eval/tune/auc"]]


def test_confirmation_trains_with_fresh_seeds(finished: tuple[StudyReport, Path]) -> None:
    report, folder = finished
    confirmed = folder / "tuning" / "tiny" / "confirm"
    for one in report.candidates:
        assert sorted(one.by_seed) == [43, 44]
        for seed in one.by_seed:
            place = latest_run(confirmed / f"{one.number:04d}-seed{seed}")
            assert load_config(place / "config.yaml").seed == seed


@pytest.mark.parametrize(
    ("evaluated", "key"),
    [
        ({"bin_file": "tune.bin", "dataset": "people"}, "eval/people/auc"),
        ({"bin_file": ["tune.bin", "more.bin"]}, "eval/mean/auc"),
    ],
    ids=["a set of another name than its file", "several sets"],
)
def test_reporting_pairs_choose_neither_setting_nor_epoch(tmp_path: Path, evaluated: dict[str, Any], key: str) -> None:
    base = write_base(tmp_path)
    write_pair_set(tmp_path / "pack" / "more.bin", pairs=30)
    base.write_text(yaml.safe_dump(yaml.safe_load(base.read_text()) | {"eval": evaluated}))
    report = run(load_study(write_study(tmp_path, budget={"trials": 2}, report={"bin_file": "report.bin"})))
    study = tmp_path / "tuning" / "tiny"
    for place in (latest_run(path) for kind in ("trials", "confirm") for path in (study / kind).iterdir()):
        assert json.loads((place / "summary.json").read_text())["monitor"] == key
        assert not [name for entry in read_history(place) for name in entry.metrics if "report" in name]
    for trial in find_study(str(study)).search.trials():
        history = read_history(latest_run(study / "trials" / trial.user_attrs["facerec.slot"]))
        assert trial.values == [max(entry.metrics[key] for entry in history if entry.epoch > 0)]
    best = winner_run(report)
    loaded = load_backbone(best)
    (result,) = evaluate_configured(
        loaded.backbone,
        [read_pairs(tmp_path / "pack" / "report.bin")],
        config=loaded.config,
        device=torch.device("cpu"),
    )
    assert report.verdict is not None
    assert report.verdict.winner.by_seed[43] == result.auc


def test_only_the_best_weights_are_kept(finished: tuple[StudyReport, Path]) -> None:
    report, folder = finished
    kept = {path.parents[2].name for path in (folder / "tuning" / "tiny").glob("*/*/*/step-*/model.safetensors")}
    assert kept <= report.kept_slots
    assert len(kept) == 2


def test_the_tuned_configuration_is_valid_and_trains(finished: tuple[StudyReport, Path]) -> None:
    report, folder = finished
    assert report.winner is not None
    config = load_config(folder / "tuning" / "tiny" / "best.yaml", ["training.epochs=1"])
    assert config.head.margin == report.winner[1]["head.margin"]
    assert config.checkpoint.save_dir == str(folder / "runs")
    result = train(config, tracker=StudyRun(config).trial(name="x", tags={}, keeps_pictures=True, on_start=print))
    assert result.best is not None


def test_a_trial_can_be_trained_again(finished: tuple[StudyReport, Path], tmp_path: Path) -> None:
    _, folder = finished
    study = str(folder / "tuning" / "tiny")
    trial = find_study(study).search.trials()[2]
    config = config_of_trial(f"{study}:2", overrides=["training.epochs=5"])
    assert (config.head.margin, config.training.lr) == (trial.params["head.margin"], trial.params["training.lr"])
    assert config.training.epochs == 5
    assert config_of_trial(f"{study}:0").head.margin == 0.2
    moved = shutil.copyfile(Path(study) / "journal.log", tmp_path / "moved.log")
    assert config_of_trial("tiny:2", storage=str(moved)).head.margin == config.head.margin
    for wrong in (f"{study}:9", study, "nowhere:1"):
        with pytest.raises(FacerecError):
            config_of_trial(wrong)


def test_running_a_finished_study_again_trains_nothing(finished: tuple[StudyReport, Path]) -> None:
    report, folder = finished
    told: list[str] = []
    again = run(load_study(write_study(folder, report={"bin_file": "report.bin"})), told)
    assert told == []
    assert again.counts == report.counts


def test_data_that_has_changed_stops_the_study(tmp_path: Path) -> None:
    write_base(tmp_path)
    plan = load_study(write_study(tmp_path, budget={"trials": 1}, confirm={"top_k": 0}))
    run(plan)
    write_pair_set(tmp_path / "pack" / "tune.bin", pairs=22)
    with pytest.raises(ConfigError, match=r"data\.tune"):
        run(plan)


def test_settings_past_a_constraint_are_not_trained(tmp_path: Path) -> None:
    write_base(tmp_path)
    space = {"model.embedding_size": {"choice": [16, 256]}}
    study = write_study(
        tmp_path,
        space=space,
        sampler={"name": "grid"},
        constraints={"parameters": 1.4e6},
        confirm={"top_k": 0},
        budget={"trials": 2},
    )
    report = run(load_study(study))
    assert (report.counts["complete"], report.counts["pruned"]) == (1, 1)
    refused = find_study(str(study)).search.trials()[1]
    assert refused.params == {"model.embedding_size": 256}
    assert "parameters" in refused.user_attrs["facerec.reason"]
    assert "is above" in refused.user_attrs["facerec.reason"]
    assert "facerec.run_folder" not in refused.user_attrs


def test_several_objectives_end_in_compromises(tmp_path: Path) -> None:
    write_base(tmp_path)
    study = write_study(
        tmp_path,
        objectives=[{"metric": "accuracy"}, {"metric": "latency_ms"}],
        objective={},
        space={"model.embedding_size": {"choice": [16, 64]}},
        sampler={"name": "grid"},
        confirm={"top_k": 0},
        budget={"trials": 2},
    )
    report = run(load_study(study))
    assert report.winner is None
    assert report.front
    for trial in report.front:
        assert load_config(tmp_path / "tuning" / "tiny" / "front" / f"trial_{trial.number}.yaml")
    assert (tmp_path / "tuning" / "tiny" / "pictures" / "pareto_front.png").is_file()


def test_a_diverging_trial_fails_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    write_base(tmp_path)
    study = write_study(
        tmp_path,
        space={"training.lr": {"float": [0.05, 1e12], "log": True}},
        set={"training.grad_clip_norm": 0.0},
        seeds=[{"training.lr": 1e12}],
        budget={"trials": 2},
        confirm={"top_k": 0},
    )
    told: list[str] = []
    report = run(load_study(study), told)
    assert (report.counts["complete"], report.counts["failed"]) == (1, 1)
    assert "not finite" in find_study(str(study)).search.trials()[1].user_attrs["facerec.reason"]


def test_packs_and_pair_sets_stay_open_until_their_files_change(tmp_path: Path) -> None:
    config = load_config(write_base(tmp_path))
    data = WarmData()
    assert data.pack(config) is data.pack(config)
    pairs = data.pair_sets(config)
    assert data.pair_sets(config) is pairs
    write_pair_set(tmp_path / "pack" / "tune.bin", pairs=30)
    assert data.pair_sets(config)[0].sha256 != pairs[0].sha256


def test_the_watcher_of_a_training_hears_every_evaluation(tmp_path: Path) -> None:
    config = load_config(write_base(tmp_path), ["eval.before_training=true"])
    heard: list[Evaluation] = []
    tracker = StudyRun(config).trial(name="x", tags={}, keeps_pictures=True, on_start=print)
    result = train(config, tracker=tracker, on_evaluation=heard.append)
    assert heard == read_history(result.run_folder)
    assert [evaluation.epoch for evaluation in heard] == [0, 1, 2]


def test_a_trial_of_two_processes_reports_is_pruned_and_gives_its_value(tmp_path: Path) -> None:
    write_base(tmp_path)
    study = write_study(
        tmp_path,
        nproc=2,
        set={"training.epochs": 3, "data.batch_size": 8},
        space={"training.lr": {"float": [0.00001, 0.2], "log": True}},
        seeds=[{"training.lr": 0.00001}],
        budget={"trials": 2},
        pruner={"name": "median", "startup_trials": 1},
        confirm={"top_k": 0},
    )
    run(load_study(study))
    first, second = find_study(str(study)).search.trials()
    assert (first.state.name, first.last_step) == ("COMPLETE", 3)
    assert first.values == [max(first.intermediate_values.values())]
    assert second.state.name in ("PRUNED", "COMPLETE")
    assert second.intermediate_values


def test_a_repeated_trial_waits_for_the_processes_of_its_dead_worker(tmp_path: Path) -> None:
    run_folder = tmp_path / "20260101_000000"
    run_folder.mkdir()
    with lock_run(run_folder):
        waiting = threading.Thread(target=_wait_until_free, args=(run_folder,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_an_interrupted_trial_goes_on_from_its_checkpoint_to_the_same_value(tmp_path: Path) -> None:
    write_base(tmp_path)
    values = []
    for name in ("whole", "interrupted"):
        study = write_study(tmp_path, study=name, budget={"trials": 1}, confirm={"top_k": 0})
        plan = load_study(study)
        opened = open_study(plan, data_digests={})
        trainer = Trainer(plan=plan, tracker=StudyRun(plan.base))
        phase = Phase(
            name="trial", plan=plan, table=opened.search, slots=search_slots(plan), run=trainer, is_search=True
        )
        if name == "interrupted":
            with pytest.raises(TrainingInterrupted):
                work(dataclasses.replace(phase, run=Stopping(trainer)), Interrupt())
        work(phase, Interrupt())
        values.append(opened.search.trials()[-1].values)
        (folder,) = (plan.folder / "trials" / "0000").glob("2*")
        assert [evaluation.epoch for evaluation in read_history(folder)] == [1, 2]
    assert [trial.state.name for trial in opened.search.trials()] == ["FAIL", "COMPLETE"]
    assert sorted(opened.search.trials()[1].intermediate_values) == [1, 2]
    assert values[0] == values[1]


class Stopping:
    """Stops the training at its first evaluation, as a signal would."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def __call__(self, job: Job) -> Outcome:
        return self._trainer(dataclasses.replace(job, report=self._stop))

    def _stop(self, epoch: int, value: float) -> None:
        raise TrainingInterrupted("stopped by SIGTERM", signal_number=15)
