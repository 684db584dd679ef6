"""``facerec tune`` on the command line: help, mistakes, show, export, dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facerec.cli.main import main
from facerec.config.load import load_config
from facerec.training.interrupt import Interrupt
from facerec.tuning.slots import counted_trials
from facerec.tuning.study import search_slots
from facerec.tuning.worker import Phase, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic
from tests.tuning.test_training import write_base, write_study


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["tune", *arguments])
    code = stopped.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = make_study(tmp_path, budget={"trials": 4}, confirm={"top_k": 0})
    opened = open_synthetic(path)
    phase = Phase(
        name="trial",
        plan=opened.plan,
        table=opened.search,
        slots=search_slots(opened.plan),
        run=Sum(0.0),
        is_search=True,
    )
    work(phase, Interrupt())
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give --study FILE"),
        (("--study", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("--study", "studies/demo.yaml", "--trials", "many"), "--trials many: must be a whole number"),
        (("--study", "studies/demo.yaml", "--set", "training.epoch=3"), "did you mean 'training.epochs'"),
        (("--study", "studies/demo.yaml", "--storage", "oracle://x"), "is no storage"),
        (("show", "nowhere"), "there is no study 'nowhere'"),
        (("--storage", "x.log", "show", "nowhere"), "--storage stands before 'show'"),
        (("--study", "studies/demo.yaml", "--dry-run", "--json"), "leave --json out"),
    ],
)
def test_mistakes_end_with_a_sentence_and_code_2(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_show_tells_how_a_study_stands(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(study)) == 0
    text = capsys.readouterr().out
    assert "4 of 4 trials settled (4 complete, 12 epochs)" in text
    assert "optimistic" in text
    assert text.count("| complete |") == 4
    folder = str(open_synthetic(study).plan.folder)
    assert call("show", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["complete"] == 4


def test_export_writes_the_best_or_a_named_trial_for_train(study: Path, tmp_path: Path) -> None:
    trials = counted_trials(open_synthetic(study).search.trials())
    best = max(trials, key=lambda trial: trial.values[0])
    out = tmp_path / "out.yaml"
    assert call("export", str(study), str(out)) == 0
    assert load_config(out).head.margin == best.params["head.margin"]
    assert call("export", str(study), str(out), "--trial", "1") == 0
    assert load_config(out).training.lr == trials[1].params["training.lr"]
    assert call("export", str(study), str(out), "--trial", "77") == 2


def test_a_dry_run_prints_space_size_baseline_and_time_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_base(tmp_path)
    assert call("--study", str(write_study(tmp_path)), "--dry-run") == 0
    text = capsys.readouterr().out
    for word in ("head.margin: float 0 to 0.5", "2 continuous dimensions, 3 trials", "head.margin=0.2", "estimate"):
        assert word in text
    assert not (tmp_path / "tuning").exists()
    assert not (tmp_path / "runs").exists()
