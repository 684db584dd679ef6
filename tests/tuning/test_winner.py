"""The model that a study recommends, and its way into the registry."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Literal

import pytest
import yaml
from safetensors.numpy import load_file

from facerec.cli.main import main
from facerec.errors import MissingPathError
from facerec.serving.locate import locate_model
from facerec.training.history import Evaluation, judge
from facerec.training.run_folder import latest_run
from facerec.tuning.locate import find_study
from facerec.tuning.metric import Objective
from facerec.tuning.report import build_report
from facerec.tuning.winner import winner_run
from tests.tuning.test_training import write_base, write_study


def tune(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["tune", *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_confirmed_winner_is_registered_with_thresholds_from_the_reporting_pairs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(place, budget={"trials": 2}, report={"bin_file": "report.bin"})
    assert tune("--study", str(study), "--register-as", "tuned", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    registration = told["registration"]
    assert (registration["uri"], registration["alias"]) == ("models:/tuned/1", "champion")
    assert registration["pair_sets"] == ["report"]
    report = build_report(find_study(str(study)))
    assert report.verdict is not None
    number = report.verdict.winner.number
    run = latest_run(place / "tuning" / "tiny" / "confirm" / f"{number:04d}-seed43")
    assert winner_run(report) == run / "best"
    weights = locate_model("models:/tuned@champion") / "model.safetensors"
    trained = load_file(run / "best" / "model.safetensors")
    packed = load_file(weights)
    assert all((packed[name] == tensor).all() for name, tensor in trained.items() if name in packed)
    assert packed


@pytest.mark.slow
def test_a_study_that_judges_the_last_evaluation_recommends_the_last_checkpoint(place: Path) -> None:
    objective = {"metric": "accuracy", "value": "last"}
    assert tune("--study", str(write_study(place, budget={"trials": 1}, objective=objective))) == 0
    assert winner_run(build_report(find_study(str(place / "study.yaml")))).name == "last"


@pytest.mark.slow
def test_without_a_confirmation_the_best_trial_of_the_search_is_the_winner(place: Path) -> None:
    study = write_study(place, budget={"trials": 2}, confirm={"top_k": 0})
    assert tune("--study", str(study)) == 0
    report = build_report(find_study(str(study)))
    assert report.best is not None
    run = latest_run(place / "tuning" / "tiny" / "trials" / f"{report.best.number:04d}")
    assert winner_run(report) == run / "best"
    (place / "tuning" / "tiny" / "trials").rename(place / "elsewhere")
    with pytest.raises(MissingPathError, match="was trained on another machine"):
        winner_run(report)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--register-as", "a/b"), "a/b"),
        (("--register-as", "tuned", "--dry-run"), "--dry-run leaves nothing to register"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_before_the_study_runs(
    place: Path, options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--study", str(write_study(place)), *options) == 2
    assert sentence in capsys.readouterr().err
    assert not (place / "tuning").exists()


def test_a_study_of_several_objectives_has_no_model_to_register(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(place)
    settings = yaml.safe_load(study.read_text())
    del settings["objective"]
    settings["objectives"] = [{"metric": "auc"}, {"metric": "latency_ms"}]
    settings["confirm"] = {"top_k": 0}
    study.write_text(yaml.safe_dump(settings))
    assert tune("--study", str(study), "--register-as", "tuned") == 2
    assert "no single best model" in capsys.readouterr().err


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_trial_counts_by_the_evaluation_whose_checkpoint_the_training_calls_best(
    direction: Literal["maximize", "minimize"],
) -> None:
    objective = Objective(label="auc", direction=direction, value="best", key="auc")
    draw = random.Random(0)
    for _ in range(200):
        scores = [round(draw.uniform(0.9, 0.91), 3) for _ in range(6)]
        history = [Evaluation(epoch=i, step=i, metrics={"auc": score}) for i, score in enumerate(scores)]
        mode: Literal["max", "min"] = "max" if direction == "maximize" else "min"
        best = judge(history, key="auc", mode=mode, min_delta=0.002).best
        assert objective.choose(history, min_delta=0.002) is best
