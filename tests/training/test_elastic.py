"""Processes that a launcher starts again find the run that was theirs, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facerec.config.schema import Config
from facerec.training.distributed import World
from facerec.training.elastic import claim_run, forget_run, run_to_continue
from facerec.training.loop import train
from facerec.training.opening import open_session
from tests.training.conftest import RecordingTracker
from tests.training.test_resume import interrupt_at

MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job/7")


def make_run(folder: Path, step: int) -> Path:
    (folder / f"step-{step:08d}").mkdir(parents=True)
    return folder


def test_the_run_is_found_by_its_name_or_where_it_lies(tmp_path: Path) -> None:
    own, other = make_run(tmp_path / "runs" / "one", 5), make_run(tmp_path / "elsewhere" / "two", 7)
    save_dir = tmp_path / "runs"
    assert run_to_continue(save_dir) is None
    claim_run(own, save_dir=save_dir)
    assert (save_dir / ".elastic-job_7").read_text() == "one"
    assert run_to_continue(save_dir) == own / "step-00000005"
    claim_run(other, save_dir=save_dir)
    assert run_to_continue(save_dir) == other / "step-00000007"
    forget_run(save_dir)
    assert run_to_continue(save_dir) is None
    assert not list(tmp_path.rglob(".elastic-*"))


def test_launchers_do_not_take_each_others_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_run(make_run(tmp_path / "one", 5), save_dir=tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert run_to_continue(tmp_path) is None
    claim_run(make_run(tmp_path / "two", 6), save_dir=tmp_path)
    # Every launcher without a rendezvous calls its job "none".
    monkeypatch.setattr("os.getppid", lambda: 1)
    assert run_to_continue(tmp_path) is None


def test_without_a_launcher_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    claim_run(make_run(tmp_path / "one", 5), save_dir=tmp_path)
    assert run_to_continue(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_restart_goes_on_with_the_newest_checkpoint_of_a_run_that_lies_elsewhere(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("TORCHELASTIC_RUN_ID")
        run = interrupt_at(make_config(), 2)
    # As the first start has been told to: from an earlier checkpoint, with new runs in another folder.
    changes = {
        "training__resume": str(run / "step-00000002"),
        "checkpoint__save_dir": str(tmp_path / "other"),
        "checkpoint__every_steps": 1,
    }
    interrupted = RecordingTracker(on_metrics=_fail_at(7))
    with pytest.raises(OSError, match="as if killed"):
        train(make_config(**changes), tracker=interrupted)
    session = open_session(make_config(**changes), RecordingTracker(), world=World(restarts=1))
    session.loader.close()
    assert session.resumed_from == run / "step-00000006"
    assert session.global_step == 6


def _fail_at(step: int) -> Callable[[int], None]:
    def fail(now: int) -> None:
        if now == step:
            raise OSError("as if killed")

    return fail
