"""What a run records of where it ran, and that nothing of it can end a training."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from facerec.training import environment
from facerec.training.environment import describe_environment, git_state, make_deterministic


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with one commit."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "Begin")
    monkeypatch.setattr(environment, "_PROJECT", tmp_path)
    return tmp_path


def test_the_commit_is_told_and_whether_files_have_changed(checkout: Path) -> None:
    found = git_state()
    assert len(found["env.git_commit"]) == 40
    assert found["env.git_dirty"] is False
    (checkout / "new.py").write_text("")
    assert git_state() == found, "a file that git does not know changes nothing"
    (checkout / "code.py").write_text("a = 2\n")
    assert git_state() == {**found, "env.git_dirty": True}


@pytest.mark.parametrize(
    "failure",
    [subprocess.TimeoutExpired("git", 20), PermissionError(13, "Permission denied"), OSError(12, "Cannot allocate")],
)
def test_a_git_that_hangs_or_cannot_start_ends_no_training(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def run(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    assert git_state() == {}


def test_a_checkout_whose_state_git_does_not_tell_is_not_called_clean(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = environment._git
    monkeypatch.setattr(environment, "_git", lambda *words: None if words[0] == "status" else original(*words))
    assert list(git_state()) == ["env.git_commit"]


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PROJECT", tmp_path)
    assert git_state() == {}


def test_versions_are_told_and_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PACKAGES", ("torch", "no-such-package-at-all"))
    facts = describe_environment(torch.device("cpu"))
    assert facts["env.torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["env.no-such-package-at-all"] == "not installed"
    assert "env.cuda" not in facts


@pytest.fixture
def freedom() -> Iterator[None]:
    yield
    make_deterministic(enabled=False)


def test_deterministic_algorithms_can_be_asked_for_and_left_again(
    freedom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    make_deterministic(enabled=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    make_deterministic(enabled=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
