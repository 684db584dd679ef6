"""The confirmation: paired differences over seeds, and the sentence that follows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from facerec.training.interrupt import Interrupt
from facerec.tuning.confirm import Candidate, best_trials, fresh_seeds, judge_confirmation, student_interval
from facerec.tuning.plan import StudyPlan, load_study
from facerec.tuning.study import search_slots
from facerec.tuning.worker import Phase, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    return load_study(make_study(tmp_path, confirm={"top_k": 2, "seeds": 4}))


def candidate(number: int, values: list[float], *, search: float = 0.9) -> Candidate:
    return Candidate(
        number=number,
        is_baseline=number == 0,
        values={"head.margin": 0.1 * number},
        search_value=search,
        by_seed=dict(enumerate(values, start=43)),
    )


def test_the_interval_is_that_of_scipys_one_sample_t_test() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 9):
        differences = rng.normal(0.1, 0.05, size).tolist()
        expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
        assert student_interval(differences, confidence=0.95) == pytest.approx((expected.low, expected.high))


def test_a_gain_beyond_its_noise_is_said_to_be_one(plan: StudyPlan) -> None:
    people = [candidate(0, [0.80, 0.82, 0.81, 0.79]), candidate(5, [0.85, 0.88, 0.86, 0.83])]
    verdict = judge_confirmation(people, plan)
    assert verdict is not None
    assert verdict.winner.number == 5
    assert verdict.gain == pytest.approx(0.05)
    assert verdict.exceeds_noise
    assert "exceeds its noise" in verdict.sentence


def test_pairing_by_seed_finds_a_gain_that_the_spread_of_seeds_would_hide(plan: StudyPlan) -> None:
    hard_and_easy = [0.60, 0.70, 0.80, 0.90]
    better = [value + 0.01 for value in hard_and_easy]
    better[0] += 0.001
    verdict = judge_confirmation([candidate(0, hard_and_easy), candidate(3, better)], plan)
    assert verdict is not None
    assert verdict.exceeds_noise
    assert stats.ttest_ind(hard_and_easy, better).pvalue > 0.8


def test_a_gain_within_the_noise_is_said_not_to_exceed_it(plan: StudyPlan) -> None:
    verdict = judge_confirmation([candidate(0, [0.8, 0.9, 0.7, 0.8]), candidate(2, [0.9, 0.7, 0.9, 0.8])], plan)
    assert verdict is not None
    assert verdict.gain is not None
    assert verdict.gain > 0
    assert not verdict.exceeds_noise
    assert "does not exceed its noise" in verdict.sentence


def test_a_gain_without_any_spread_is_not_said_to_exceed_its_noise(plan: StudyPlan) -> None:
    better = candidate(5, [0.85, 0.87, 0.86, 0.84])
    for baseline in ([0.80, 0.82, 0.81, 0.79], [0.80, 0.82]):
        verdict = judge_confirmation([candidate(0, baseline), better], plan)
        assert verdict is not None
        assert verdict.winner.number == 5
        assert verdict.gain == pytest.approx(0.05)
        assert verdict.interval is None
        assert not verdict.exceeds_noise
        assert "exceed" not in verdict.sentence
        assert "noise of the gain is cannot be told" in verdict.sentence


def test_where_nothing_is_better_the_baseline_wins(plan: StudyPlan) -> None:
    verdict = judge_confirmation([candidate(0, [0.9] * 4), candidate(2, [0.8, 0.81, 0.8, 0.8])], plan)
    assert verdict is not None
    assert verdict.winner.is_baseline
    assert "keep the baseline" in verdict.sentence


def test_a_setting_that_most_seeds_broke_does_not_win_by_the_one_that_it_survived(plan: StudyPlan) -> None:
    people = [candidate(0, [0.80, 0.82, 0.81, 0.79]), candidate(1, [0.95]), candidate(5, [0.85, 0.88, 0.86, 0.83])]
    verdict = judge_confirmation(people, plan)
    assert verdict is not None
    assert verdict.winner.number == 5
    assert verdict.exceeds_noise


def test_more_candidates_make_each_interval_wider(plan: StudyPlan) -> None:
    base, one, two = (
        candidate(0, [0.80, 0.82, 0.81, 0.79]),
        candidate(1, [0.85, 0.88, 0.86, 0.84]),
        candidate(2, [0.8] * 4),
    )
    alone, among = judge_confirmation([base, one], plan), judge_confirmation([base, one, two], plan)
    assert alone is not None
    assert among is not None
    assert alone.confidence == pytest.approx(0.95)
    assert among.confidence == pytest.approx(0.975)
    assert alone.interval is not None
    assert among.interval is not None
    assert among.interval[0] < alone.interval[0]


def test_the_false_alarm_rate_is_at_most_the_stated_one(plan: StudyPlan) -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(400):
        people = [candidate(number, rng.normal(0.8, 0.02, 4).tolist()) for number in range(3)]
        verdict = judge_confirmation(people, plan)
        assert verdict is not None
        alarms += verdict.exceeds_noise
    # A two-sided 95 % interval gives a false gain in 2.5 % of the cases; three standard errors above that.
    assert alarms / 400 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)


def test_smaller_is_better_where_the_objective_says_so(tmp_path: Path) -> None:
    plan = load_study(make_study(tmp_path, objective={"metric": "eer"}))
    verdict = judge_confirmation([candidate(0, [0.2, 0.21, 0.2]), candidate(1, [0.1, 0.11, 0.1])], plan)
    assert verdict is not None
    assert verdict.winner.number == 1
    assert verdict.gain == pytest.approx(0.1)


def test_fresh_seeds_are_none_that_the_search_trained_with(tmp_path: Path) -> None:
    space = {"seed": {"int": [40, 60]}, "head.margin": {"float": [0.0, 0.6]}}
    plan = load_study(make_study(tmp_path, space=space, confirm={"top_k": 1, "seeds": 3}))
    assert fresh_seeds(plan) == [61, 62, 63]


def test_a_setting_that_is_the_baselines_is_no_candidate(tmp_path: Path) -> None:
    space = {"head.margin": {"choice": [0.3, 0.5]}, "training.lr": {"choice": [0.05]}}
    opened = open_synthetic(make_study(tmp_path, space=space, budget={"trials": 8}))
    slots = search_slots(opened.plan)
    work(
        Phase(name="trial", plan=opened.plan, table=opened.search, slots=slots, run=Sum(0.0), is_search=True),
        Interrupt(),
    )
    trials = opened.search.trials()
    assert sum(trial.params == slots[0].params for trial in trials) > 1
    assert all(trial.params != slots[0].params for trial in best_trials(trials, opened.plan, count=8))
