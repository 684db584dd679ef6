"""What a report says: nothing is called final before it is, and nothing is left out without a word."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import optuna.visualization.matplotlib as plots
import pytest

from facerec.cli.main import main
from facerec.training.interrupt import Interrupt
from facerec.tuning.confirm import confirmation_slots
from facerec.tuning.pictures import importances, not_in_all_trials, write_pictures
from facerec.tuning.report import build_report, describe_report, report_to_json, verdict_sentence
from facerec.tuning.slots import KILLED
from facerec.tuning.study import Opened, search_slots
from facerec.tuning.worker import Job, Outcome, Phase, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic


def work_on(opened: Opened, *, confirmations: int) -> None:
    """Finish the search and so many confirmations; every seed has a gain of its own."""
    slots = search_slots(opened.plan)
    search = Phase(name="trial", plan=opened.plan, table=opened.search, slots=slots, run=Sum(0.0), is_search=True)
    work(search, Interrupt())

    def confirm(job: Job) -> Outcome:
        gain = 0.0 if job.attrs["facerec.baseline"] else 0.1 + 0.001 * (job.attrs["facerec.seed"] % 2)
        return Outcome(values=(0.8 + gain,))

    chosen = confirmation_slots(opened.search.trials(), opened.plan)[:confirmations]
    table = opened.confirmation
    work(
        Phase(name="confirmation", plan=opened.plan, table=table, slots=chosen, run=confirm, is_search=False),
        Interrupt(),
    )


def test_a_verdict_is_not_final_before_every_confirmation_is_done(tmp_path: Path) -> None:
    study = make_study(tmp_path, budget={"trials": 4}, confirm={"top_k": 1, "seeds": 4})
    opened = open_synthetic(study)
    work_on(opened, confirmations=6)
    report = build_report(opened)
    assert report.verdict is not None
    assert report.verdict.exceeds_noise
    assert verdict_sentence(report).startswith("6 of 8 confirmations done, not final: the gain of trial ")
    assert describe_report(report).splitlines()[-1] == verdict_sentence(report)
    assert (report_to_json(report)["final"], report_to_json(report)["exceeds_noise"]) == (False, None)
    exported = tmp_path / "tuned.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["tune", "export", str(study), str(exported)])
    assert ended.value.code == 0
    assert exported.read_text().splitlines()[1].startswith("# 6 of 8 confirmations done, not final: the gain of trial ")
    work_on(opened, confirmations=8)
    done = build_report(opened)
    assert verdict_sentence(done).startswith("the gain of trial ")
    assert (report_to_json(done)["final"], report_to_json(done)["exceeds_noise"]) == (True, True)
    # More trials may find a better setting.
    more = open_synthetic(make_study(tmp_path, budget={"trials": 6}, confirm={"top_k": 1, "seeds": 4}))
    assert verdict_sentence(build_report(more)).startswith("the search goes on, not final: ")


def test_a_confirmation_that_is_given_up_is_not_waited_for(tmp_path: Path) -> None:
    study = make_study(tmp_path, budget={"trials": 4}, confirm={"top_k": 1, "seeds": 2}, recovery={"retries": 0})
    opened = open_synthetic(study)
    work_on(opened, confirmations=3)
    last = confirmation_slots(opened.search.trials(), opened.plan)[3:]
    opened.confirmation.fill(last)
    taken = opened.confirmation.take(last)
    assert taken is not None
    opened.confirmation.lose(taken, KILLED)
    assert build_report(opened).progress.is_over


def test_a_verdict_from_the_tuning_pairs_says_so(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 2}))
    work_on(opened, confirmations=4)
    text = describe_report(build_report(opened))
    assert (
        "confirmed over fresh seeds on the tuning pairs themselves, which have chosen the setting and the epoch:"
        in text
    )


@pytest.fixture
def conditional() -> optuna.Study:
    """Twelve trials of two heads: the margin has a range for each, and the batch never changes."""
    study = optuna.create_study()
    lr = optuna.distributions.FloatDistribution(0.01, 0.5)
    head = optuna.distributions.CategoricalDistribution(["arcface", "cosface"])
    margin = optuna.distributions.FloatDistribution(0.1, 0.7)
    batch = optuna.distributions.IntDistribution(16, 64)
    for number in range(12):
        kind = ("arcface", "cosface")[number % 2]
        name = f"head.margin (head.type={kind})"
        params = {
            "training.lr": 0.02 * (1 + number),
            "head.type": kind,
            "data.batch_size": 32,
            name: 0.1 + 0.04 * number,
        }
        given = {"training.lr": lr, "head.type": head, "data.batch_size": batch, name: margin}
        value = 0.9 - 0.1 * (number % 2) - 0.01 * number
        study.add_trial(
            optuna.trial.create_trial(
                value=value, params=params, distributions=given, intermediate_values={1: value / 2, 2: value}
            )
        )
    return study


def test_pictures_show_parameters_that_only_some_trials_have(
    conditional: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[str]] = {}

    def watch(name: str) -> None:
        draw = getattr(plots, name)

        def drawing(study: optuna.Study, *, params: list[str], **settings: object) -> object:
            drawn[name] = params
            return draw(study, params=params, **settings)

        monkeypatch.setattr(plots, name, drawing)

    for name in ("plot_slice", "plot_parallel_coordinate", "plot_contour"):
        watch(name)
    paths = write_pictures(conditional, tmp_path, label="auc")
    margins = ["head.margin (head.type=arcface)", "head.margin (head.type=cosface)"]
    assert drawn["plot_slice"] == [*margins, "head.type", "training.lr"]
    assert drawn["plot_parallel_coordinate"] == ["head.type", "training.lr"]
    assert set(drawn["plot_contour"]) >= {"head.type", "training.lr"}
    assert {path.stem for path in paths} == {
        "history",
        "edf",
        "intermediate",
        "importances",
        "slice",
        "parallel_coordinate",
        "contour",
        "timeline",
    }
    for path in paths:
        assert plt.imread(path).std() > 0, f"{path.name} is blank"
    assert not_in_all_trials(conditional) == margins
    assert not set(margins) & set(importances(conditional))


def test_a_report_names_what_its_importances_leave_out(tmp_path: Path) -> None:
    space = {
        "head.type": {"choice": ["arcface", "cosface"]},
        "head.margin": [
            {"float": [0.0, 0.6], "when": {"head.type": "arcface"}},
            {"float": [0.0, 0.4], "when": {"head.type": "cosface"}},
        ],
        "training.lr": {"float": [0.01, 0.5]},
    }
    opened = open_synthetic(make_study(tmp_path, space=space, confirm={"top_k": 0}))
    work_on(opened, confirmations=0)
    report = build_report(opened)
    left_out = "head.margin (head.type=arcface), head.margin (head.type=cosface)"
    assert f"not judged, because only some trials have them: {left_out}" in describe_report(report)
    assert report_to_json(report)["not_in_importances"] == left_out.split(", ")
