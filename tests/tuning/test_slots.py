"""Slots: the budget is exact, a lost trial is repeated, a doubled one is void."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path

import optuna
import pytest

from facerec.errors import ConfigError, TrainingError
from facerec.training.interrupt import Interrupt, TrainingInterrupted
from facerec.tuning import worker as worker_module
from facerec.tuning.budget import busy_s, is_spent
from facerec.tuning.locks import held, open_lock
from facerec.tuning.owner import OWNER_ATTR, Watch, owner_of_this_process
from facerec.tuning.plan import load_study
from facerec.tuning.schema import BudgetConfig
from facerec.tuning.slots import INTERRUPTED, KILLED, LOST_ATTR, REASON_ATTR, Slot, counted_trials, is_lost, is_void
from facerec.tuning.storage import JOURNAL_NAME, open_storage, shown_storage
from facerec.tuning.study import Opened, open_study, search_slots
from facerec.tuning.worker import Job, Outcome, Phase, work
from tests.tuning.synthetic import Sum, make_study, open_synthetic


def phase_of(opened: Opened, run, *, told: list[str] | None = None) -> Phase:
    return Phase(
        name="trial",
        plan=opened.plan,
        table=opened.search,
        slots=search_slots(opened.plan),
        run=run,
        is_search=True,
        tell=(told if told is not None else []).append,
    )


def states(opened: Opened) -> list[str]:
    return [trial.state.name for trial in counted_trials(opened.search.trials())]


def test_the_first_trial_is_the_baseline_and_the_same_call_goes_on_to_the_total(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 5}))
    work(phase_of(opened, Sum(0.0)), Interrupt())
    assert states(opened) == ["COMPLETE"] * 5
    assert opened.search.trials()[0].params == {"head.margin": 0.3, "training.lr": 0.05}
    more = open_synthetic(make_study(tmp_path, budget={"trials": 8}))
    work(phase_of(more, Sum(0.0)), Interrupt())
    work(phase_of(more, Sum(0.0)), Interrupt())
    assert states(more) == ["COMPLETE"] * 8
    assert len(more.search.trials()) == 8


def test_a_trial_that_raises_or_gives_no_number_is_failed_with_its_reason_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 10}))
    told: list[str] = []
    work(phase_of(opened, Sum(0.0, fails=True), told=told), Interrupt())
    failed = {trial.number: trial.user_attrs[REASON_ATTR] for trial in opened.search.trials() if not trial.values}
    assert failed == {
        3: "TrainingError: the loss is not finite at step 7",
        4: "TrainingError: the objective is nan, which is no result",
        8: "TrainingError: the loss is not finite at step 7",
        9: "TrainingError: the objective is nan, which is no result",
    }
    assert any("trial 3 failed" in line for line in told)
    assert opened.search.stand(search_slots(opened.plan)).is_over


class _Moody(optuna.samplers.RandomSampler):
    """Raises at some trials: before they get a setting, while they get it, or after they have ended."""

    def __init__(self, number: int, *, at: str) -> None:
        super().__init__(seed=number)
        self._at = at if number == 2 else ""

    def before_trial(self, study, trial):
        if self._at == "begin":
            raise RuntimeError("no convergence\nafter 100 iterations")

    def infer_relative_search_space(self, study, trial):
        if self._at == "space":
            raise RuntimeError("no convergence\nafter 100 iterations")
        return super().infer_relative_search_space(study, trial)

    def sample_independent(self, study, trial, name, distribution):
        if self._at == "while":
            raise RuntimeError("no convergence\nafter 100 iterations")
        return super().sample_independent(study, trial, name, distribution)

    def after_trial(self, study, trial, state, values):
        if self._at == "after":
            raise ValueError("no convergence")


@pytest.mark.parametrize(
    ("at", "state"), [("build", "FAIL"), ("begin", "FAIL"), ("space", "FAIL"), ("while", "FAIL"), ("after", "COMPLETE")]
)
def test_a_sampler_that_raises_fails_its_trial_and_never_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, state: str
) -> None:
    def build(settings: object, *, space: object, number: int) -> _Moody:
        if at == "build" and number == 2:
            raise RuntimeError("no convergence after 100 iterations")
        return _Moody(number, at=at)

    monkeypatch.setattr(worker_module, "build_sampler", build)
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 4}))
    told: list[str] = []
    work(phase_of(opened, Sum(0.0), told=told), Interrupt())
    assert states(opened) == ["COMPLETE", "COMPLETE", state, "COMPLETE"]
    reason = opened.search.trials()[2].user_attrs.get(REASON_ATTR, "")
    assert ("RuntimeError: no convergence after 100 iterations" in reason) == (state == "FAIL")
    if at in ("build", "begin"):
        assert reason.startswith("the sampler tpe has no setting for it")
    assert any("no convergence" in line for line in told)
    assert not any("closed by another worker" in line for line in told)


def test_where_the_file_system_has_no_locks_a_link_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("facerec.tuning.locks.fcntl.flock", refuse)
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 4}))
    work(phase_of(opened, Sum(0.0)), Interrupt())
    assert states(opened) == ["COMPLETE"] * 4
    lock, second = (open_lock(tmp_path / "place") for _ in range(2))
    entered = threading.Event()

    def enter() -> None:
        with held(second):
            entered.set()

    with held(lock):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10.0)
    thread.join()


def test_the_sampler_learns_from_the_trials_before(tmp_path: Path) -> None:
    study = make_study(tmp_path, budget={"trials": 40}, sampler={"name": "tpe", "startup_trials": 5})
    opened = open_synthetic(study)
    work(phase_of(opened, Sum(0.0)), Interrupt())
    margins = [abs(trial.params["head.margin"] - 0.3) for trial in opened.search.trials()]
    assert sum(margins[25:]) / 15 < 0.6 * sum(margins[1:6]) / 5


def test_pruning_stops_bad_trials_early_and_never_the_baseline(tmp_path: Path) -> None:
    study = make_study(tmp_path, budget={"trials": 20}, pruner={"name": "median", "startup_trials": 2, "min_epochs": 2})
    opened = open_synthetic(study)

    def run(job: Job) -> Outcome:
        is_baseline = bool(job.attrs.get("facerec.baseline"))
        for epoch in range(1, 4):
            job.report(epoch, -1.0 if is_baseline else -float(job.number))
        return Outcome(values=(-float(job.number),))

    work(phase_of(opened, run), Interrupt())
    found = states(opened)
    assert found[0] == "COMPLETE"
    assert found.count("PRUNED") >= 15
    pruned = next(trial for trial in opened.search.trials() if trial.state.name == "PRUNED")
    assert pruned.last_step == 2
    assert "given up after epoch 2" in pruned.user_attrs[REASON_ATTR]


def test_a_polite_stop_releases_the_trial_and_costs_no_retry(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 2}, recovery={"retries": 0}))

    def stop(job: Job) -> Outcome:
        raise TrainingInterrupted("stopped by SIGTERM", signal_number=15)

    for _ in range(3):
        with pytest.raises(TrainingInterrupted):
            work(phase_of(opened, stop), Interrupt())
    lost = [trial for trial in opened.search.trials() if is_lost(trial)]
    assert [trial.user_attrs["facerec.lost"] for trial in lost] == [INTERRUPTED] * 3
    work(phase_of(opened, Sum(0.0)), Interrupt())
    assert states(opened) == ["COMPLETE"] * 2
    assert opened.search.trials()[-1].params == lost[0].params


def test_a_dead_owner_loses_its_trial_once_and_the_repetition_has_the_same_setting(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 3}))
    slots = search_slots(opened.plan)
    opened.search.fill(slots)
    taken = [opened.search.take(slots) for _ in range(2)][1]
    assert taken is not None
    values = opened.plan.space.suggest(opened.search.begin(taken))
    assert opened.search.close_dead() == []
    dead = owner_of_this_process() | {"started": "1.00"}
    opened.search.storage.set_trial_user_attr(taken._trial_id, OWNER_ATTR, dead)
    assert [trial.number for trial in opened.search.close_dead()] == [1]
    assert opened.search.close_dead() == []
    assert not opened.search.lose(opened.search.trials()[1], KILLED)
    opened.search.fill(slots)
    opened.search.fill(slots)
    again = [trial for trial in opened.search.trials() if trial.user_attrs.get("facerec.retry_of") == 1]
    assert len(again) == 1
    assert again[0].system_attrs["fixed_params"] == opened.plan.space.to_params(values)


def test_a_setting_is_given_up_after_its_retries_and_not_before(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 1}, recovery={"retries": 2}))
    slots = search_slots(opened.plan)
    for kill in range(1, 4):
        opened.search.fill(slots)
        taken = opened.search.take(slots)
        assert taken is not None, f"before kill {kill}"
        assert opened.search.lose(opened.search.trials()[-1], KILLED)
    standing = opened.search.stand(slots)
    assert [slot.key for slot in standing.given_up] == ["0000"]
    assert standing.is_over
    opened.search.fill(slots)
    assert len(opened.search.trials()) == 3


def test_a_result_of_a_trial_that_another_worker_has_closed_is_left_out(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 1}))
    told: list[str] = []
    calls: list[int] = []

    def run(job: Job) -> Outcome:
        calls.append(job.number)
        if len(calls) == 1:
            opened.search.lose(opened.search.trials()[0], KILLED)
        return Outcome(values=(1.0,))

    work(phase_of(opened, run, told=told), Interrupt())
    assert [trial.state.name for trial in opened.search.trials()] == ["FAIL", "COMPLETE"]
    assert "closed by another worker" in told[0]


def test_a_slot_that_two_machines_put_in_is_run_once(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 2}))
    for slot in (*search_slots(opened.plan), *search_slots(opened.plan)):
        opened.search.study.enqueue_trial(slot.params, user_attrs={**slot.attrs, "facerec.slot": slot.key})
    work(phase_of(opened, Sum(0.0)), Interrupt())
    opened.search.take([Slot(key="0000"), Slot(key="0001")])
    assert states(opened) == ["COMPLETE"] * 2
    assert sum(is_void(trial) for trial in opened.search.trials()) == 2


def test_a_doubled_slot_does_not_take_the_place_of_a_killed_trials_repetition(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 3}))
    slots = search_slots(opened.plan)
    for slot in (*slots, *slots):
        opened.search.study.enqueue_trial(slot.params, user_attrs={**slot.attrs, "facerec.slot": slot.key})
    taken = [opened.search.take(slots) for _ in range(2)][1]
    assert taken is not None
    setting = opened.plan.space.suggest(opened.search.begin(taken))
    for number in (0, 1):
        opened.search.lose(opened.search.trials()[number], KILLED)
    seen: dict[str, tuple[dict, bool]] = {}

    def run(job: Job) -> Outcome:
        seen[job.slot] = (job.values, job.is_retry)
        return Outcome(values=(1.0,))

    work(phase_of(opened, run), Interrupt())
    assert seen["0000"] == (opened.plan.baseline, True)
    assert seen["0001"] == (setting, True)
    assert not seen["0002"][1]
    assert states(opened) == ["COMPLETE"] * 3
    assert sum(is_void(trial) for trial in opened.search.trials()) == 3


def test_no_trial_starts_after_the_budget_of_epochs(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 20, "epochs": 9}))
    work(phase_of(opened, Sum(0.0)), Interrupt())
    assert states(opened).count("COMPLETE") == 3


def test_busy_time_counts_overlapping_trials_once() -> None:
    from datetime import datetime, timedelta

    zero = datetime(2026, 1, 1)
    spans = [(0, 10), (5, 12), (20, 21)]
    trials = [optuna.trial.create_trial(value=0.0, params={}, distributions={}) for _ in spans]
    for trial, (start, end) in zip(trials, spans, strict=True):
        trial.datetime_start, trial.datetime_complete = zero + timedelta(seconds=start), zero + timedelta(seconds=end)
    assert busy_s(trials) == 13.0


def test_the_time_of_a_lost_trial_counts_up_to_its_last_sign_of_life() -> None:
    """It is closed when somebody looks: here a day after its worker was killed."""
    from datetime import UTC, datetime, timedelta

    started = datetime(2026, 1, 1, tzinfo=UTC)
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
    trial.datetime_start, trial.datetime_complete = started, started + timedelta(days=1)
    trial.set_user_attr(LOST_ATTR, KILLED)
    assert busy_s([trial]) == 0.0
    trial.set_user_attr("facerec.heartbeat", (started + timedelta(hours=2)).isoformat(timespec="milliseconds"))
    assert busy_s([trial]) == 7200.0
    budget = BudgetConfig(hours=1.5)
    assert is_spent(budget, [trial])
    assert not is_spent(dataclasses.replace(budget, hours=2.5), [trial])
    trial.set_user_attr(LOST_ATTR, INTERRUPTED)
    assert busy_s([trial]) == 86400.0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_other_programs_see_the_names_of_the_metrics(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, objective={"metric": "eer"}))
    for table in (opened.search, opened.confirmation):
        assert table.study.metric_names == ["eer"]


def test_a_changed_space_objective_or_baseline_stops_with_a_sentence(tmp_path: Path) -> None:
    open_synthetic(make_study(tmp_path))
    space = {"head.margin": {"float": [0.0, 0.7]}, "training.lr": {"float": [0.01, 0.5], "log": True}}
    changes = (
        ({"space": space}, "space.head.margin"),
        ({"objective": {"metric": "auc"}}, "objective 0"),
        ({"set": {"logging.mlflow": False, "training.epochs": 4}}, "base.training.epochs"),
    )
    for change, named in changes:
        with pytest.raises(ConfigError, match="is another one") as caught:
            open_synthetic(make_study(tmp_path, **change))
        assert named in str(caught.value)
    # What changes no result may change.
    open_synthetic(make_study(tmp_path, budget={"trials": 99}, pruner={"name": "median"}))
    plan = load_study(make_study(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.train"):
        open_study(plan, data_digests={"train": "0123"})


def test_a_torn_last_line_of_the_journal_does_not_spoil_the_study(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 2}))
    work(phase_of(opened, Sum(0.0)), Interrupt())
    journal = opened.plan.folder / JOURNAL_NAME
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 5, "worker_id"')
    again = open_synthetic(make_study(tmp_path, budget={"trials": 4}))
    work(phase_of(again, Sum(0.0)), Interrupt())
    assert states(again) == ["COMPLETE"] * 4
    for line in journal.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "place", [{"host": "elsewhere"}, {"namespace": "0123456789ab pid:[4026531836]"}], ids=["another", "of this name"]
)
def test_a_worker_elsewhere_is_dead_only_after_silence(tmp_path: Path, place: dict[str, str]) -> None:
    storage = open_storage(None, folder=tmp_path)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    elsewhere = owner_of_this_process() | place
    trial.set_user_attr(OWNER_ATTR, elsewhere)
    watch = Watch(silence_s=0.0)
    assert not watch.is_dead(study.trials[0])
    assert watch.is_dead(study.trials[0])
    trial.set_user_attr("facerec.heartbeat", "now")
    assert not watch.is_dead(study.trials[0])
    assert not Watch(silence_s=60.0).is_dead(study.trials[0])


def test_a_worker_elsewhere_is_not_taken_for_that_of_the_same_number_in_the_other_study(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, recovery={"heartbeat_s": 0.1, "silence_s": 0.3}))
    for table in (opened.search, opened.confirmation):
        trial = table.study.ask()
        trial.set_user_attr(OWNER_ATTR, owner_of_this_process() | {"host": "elsewhere"})
        trial.set_user_attr("facerec.heartbeat", "now")
    assert opened.search.close_dead() == []
    time.sleep(0.4)
    assert opened.confirmation.close_dead() == []
    assert [trial.number for trial in opened.search.close_dead()] == [0]


def test_random_draws_depend_on_the_trial_and_not_on_the_process(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        opened = open_synthetic(make_study(folder, budget={"trials": 3 if name == "a" else 6}, sampler={"seed": 4}))
        work(phase_of(opened, Sum(0.0)), Interrupt())
        drawn.append([trial.params for trial in opened.search.trials()][:3])
    assert drawn[0] == drawn[1]
    assert drawn[0][1] != drawn[0][2]


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [("random", "halving"), ("gp", "none"), ("tpe", "hyperband"), ("grid", "none"), ("cmaes", "median")],
)
def test_every_sampler_and_pruner_runs(tmp_path: Path, sampler: str, pruner: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="cmaes is not installed: the extra of that name brings it")
    grid = {"head.margin": {"float": [0.1, 0.5], "points": 3}, "training.lr": {"choice": [0.05, 0.1]}}
    extra = {"space": grid} if sampler == "grid" else {}
    startup = {"startup_trials": 2} if sampler in ("gp", "tpe", "cmaes") else {}
    study = make_study(tmp_path, sampler={"name": sampler, **startup}, pruner={"name": pruner}, **extra)
    opened = open_synthetic(study)
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        work(phase_of(opened, Sum(0.0), told=told), Interrupt())
    # A grid of 3 x 2 with the baseline's 0.3 and 0.05 in it.
    assert len(states(opened)) == (6 if sampler == "grid" else 12)
    assert set(states(opened)) <= {"COMPLETE", "PRUNED"}
    assert not [line for line in told if "sampler" in line]


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_rungs_stop_bad_trials_at_their_epochs(tmp_path: Path, pruner: str) -> None:
    study = make_study(
        tmp_path,
        set={"logging.mlflow": False, "training.epochs": 9},
        budget={"trials": 24},
        sampler={"name": "random"},
        pruner={"name": pruner, "min_epochs": 1, "reduction_factor": 3},
    )
    opened = open_synthetic(study)

    def run(job: Job) -> Outcome:
        for epoch in range(1, 10):
            job.report(epoch, -float(job.number))
        return Outcome(values=(-float(job.number),))

    work(phase_of(opened, run), Interrupt())
    assert states(opened)[0] == "COMPLETE"
    stopped = [trial.last_step for trial in opened.search.trials() if trial.state.name == "PRUNED"]
    # Each trial is worse than all before it.
    assert len(stopped) >= 12
    assert set(stopped) <= {1, 3}


def test_an_error_that_is_no_exception_of_ours_is_a_failed_trial_too(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 1}))

    def run(job: Job) -> Outcome:
        raise RuntimeError("CUDA out of memory")

    work(phase_of(opened, run), Interrupt())
    assert opened.search.trials()[0].user_attrs[REASON_ATTR] == "RuntimeError: CUDA out of memory"
    assert not issubclass(RuntimeError, TrainingError)


def test_a_journal_whose_folder_is_gone_is_an_error_each_time_and_never_a_hang(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path))
    shutil.rmtree(opened.plan.folder)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            opened.search.study.enqueue_trial({})


def test_a_signal_that_a_trial_outran_stops_the_worker_before_the_next(tmp_path: Path) -> None:
    opened = open_synthetic(make_study(tmp_path, budget={"trials": 3}))

    def run(job: Job) -> Outcome:
        with Interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(values=(1.0,))

    with Interrupt() as stop, pytest.raises(TrainingInterrupted, match="SIGTERM"):
        work(phase_of(opened, run), stop)
    assert states(opened).count("COMPLETE") == 1


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/db", "postgresql://h/db?user=u&password=secret&x=y"])
def test_a_storage_is_shown_without_its_password(url: str) -> None:
    assert shown_storage(url) == url.replace("secret", "***")


def test_an_address_that_cannot_be_used_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mysql\+nothing_like_it://u:\*\*\*@h/db is no address"):
        open_storage("mysql+nothing_like_it://u:secret@h/db", folder=tmp_path)
