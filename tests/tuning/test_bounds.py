"""A baseline that its study's own bounds exclude is found out before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from facerec.errors import ConfigError
from facerec.tuning.bounds import bounds_of, broken_bounds, check_baseline, model_facts
from facerec.tuning.dry_run import describe_study
from facerec.tuning.plan import load_study
from facerec.tuning.run import run_study
from facerec.tuning.schema import ConstraintsConfig
from tests.tuning.synthetic import make_study
from tests.tuning.trackers import RememberingTracker


def test_a_bound_is_broken_by_more_and_not_by_as_much() -> None:
    facts = {"parameters": 100.0, "macs": 50.0}
    assert broken_bounds(facts, ConstraintsConfig(parameters=100.0, macs=50.0, latency_ms=1.0)) == []
    assert broken_bounds(facts, ConstraintsConfig(parameters=99.0)) == ["parameters 100 is above 99"]
    assert bounds_of(ConstraintsConfig(macs=2.0)) == {"macs": 2.0}


def test_a_baseline_past_a_bound_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = load_study(make_study(tmp_path, constraints={"parameters": 1000}))
    sentence = r"the baseline itself is past a bound \(parameters .* is above 1000\)"
    tracker = RememberingTracker()
    with pytest.raises(ConfigError, match=sentence):
        run_study(plan, tracker=tracker, tell=print)
    assert tracker.created == []
    assert not plan.folder.exists()


def test_where_nothing_is_compared_with_the_baseline_a_line_says_that_it_is_not_trained(tmp_path: Path) -> None:
    plan = load_study(make_study(tmp_path, constraints={"macs": 1000}, confirm={"top_k": 0}))
    told: list[str] = []
    check_baseline(plan, model_facts(plan.base, with_latency=False), tell=told.append)
    assert len(told) == 1
    assert told[0].startswith("the baseline itself is past a bound and will not be trained: macs ")


@pytest.mark.slow
def test_a_dry_run_finds_it_too_and_warns_of_two_seeds(tmp_path: Path) -> None:
    from facerec.tracking.null import NullTracker
    from tests.tuning.test_training import write_base, write_study

    write_base(tmp_path)
    told: list[str] = []
    tight = load_study(write_study(tmp_path, constraints={"parameters": 1000}))
    with pytest.raises(ConfigError, match="the baseline itself is past a bound"):
        describe_study(tight, workers=1, tracker=NullTracker(), tell=told.append)
    assert told == []
    for seeds, is_warned in ((2, True), (3, False)):
        plan = load_study(write_study(tmp_path, confirm={"top_k": 1, "seeds": seeds}))
        text = describe_study(plan, workers=1, tracker=NullTracker(), tell=told.append)
        assert f"confirm    {2 * seeds} trainings with fresh seeds" in text
        assert ("so give three or more" in text) == is_warned
