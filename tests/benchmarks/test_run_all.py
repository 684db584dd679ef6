"""The runner: processes one after another, each with a limit, failures as lines, partial runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINTS_A_CLAIM = "import json; print('chatter'); print(json.dumps({'claims': [{'name': 'x', 'value': 2.0}]}))"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_last_line_of_the_output_is_the_claims(run_all: ModuleType) -> None:
    found, failure = run_all.run(python(PRINTS_A_CLAIM), limit_s=60)
    assert failure == ""
    assert [(claim.name, claim.value) for claim in found] == [("x", 2.0)]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit('no such pack')", "failed with exit code 1: no such pack"),
        ("print('hello')", "its output is not an object of claims"),
        ("", "its output is not an object of claims"),
        ('print(\'{"claims": [{"name": "x", "wrong": 1}]}\')', "its output is not an object of claims"),
    ],
)
def test_a_script_that_fails_becomes_a_sentence(run_all: ModuleType, code: str, says: str) -> None:
    found, failure = run_all.run(python(code), limit_s=60)
    assert found == []
    assert failure.startswith(says)


def test_past_its_limit_a_script_ends_with_all_that_it_started(run_all: ModuleType, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    began = time.monotonic()
    found, failure = run_all.run(python(code), limit_s=3)
    assert (found, failure) == ([], "stopped after its limit of 3 s")
    assert time.monotonic() - began < 60
    assert not psutil.pid_exists(int(note.read_text()))


def test_names_choose_benchmarks_and_groups_of_them(run_all: ModuleType) -> None:
    names = [job.name for job in run_all.choose(run_all.JOBS, "serve reader")]
    assert names == ["reader", "serve", "serve-onnx"]
    assert len(run_all.choose(run_all.JOBS, "")) == len(run_all.JOBS)
    assert run_all.choose(run_all.JOBS, "serv") == []


def test_options_of_a_peer_are_left_out_unless_all_of_them_are_given(run_all: ModuleType) -> None:
    (loader,) = run_all.choose(run_all.JOBS, "loader")
    assert "--peer-arcface" not in loader.command({"PEER": "/p"}, is_quick=False)
    words = loader.command({"PEER": "/p", "MXNET_PYTHON": "/m"}, is_quick=False)
    assert words[words.index("--peer-arcface") + 1] == "/p"
    shown = loader.shown_command({"PEER": "/p", "MXNET_PYTHON": "/m"})
    assert "--peer-arcface PEER --mxnet-python MXNET_PYTHON" in shown
    assert "/p" not in shown


def test_a_benchmark_of_a_gpu_is_a_line_where_there_is_none(
    run_all: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_all, "has_cuda", lambda: False)
    (job,) = run_all.choose(run_all.JOBS, "head-cuda")
    found = run_all.measure(job, given={}, is_quick=True)
    assert (found.absent, found.failure, list(found.claims)) == ("no GPU here", "", [])


def run_script(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "run_all.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ})


@pytest.fixture
def two_jobs(run_all: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stands in for the benchmarks: what ``one`` and ``two`` do is the code under their names."""
    codes = {"one": PRINTS_A_CLAIM, "two": PRINTS_A_CLAIM}
    jobs = tuple(run_all.Job(name=name, title=f"Part {name}", script=name) for name in codes)
    monkeypatch.setattr(run_all, "JOBS", jobs)
    monkeypatch.setattr(run_all, "others_share", lambda: 0.0)
    monkeypatch.setattr(run_all.Job, "command", lambda self, given, *, is_quick: ["-c", codes[self.name]])
    return codes


def begin(run_all: ModuleType, monkeypatch: pytest.MonkeyPatch, page: Path, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--results", str(page), *options])
    code: int = run_all.main()
    return code


def test_a_partial_run_replaces_its_own_lines_alone(
    run_all: ModuleType, two_jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "results.md"
    assert begin(run_all, monkeypatch, page) == 0
    two_jobs["one"] = two_jobs["two"] = PRINTS_A_CLAIM.replace("2.0", "7.0")
    assert begin(run_all, monkeypatch, page, "--only", "one") == 0
    stored: dict[str, Any] = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["benchmarks"]
    assert {name: part["claims"][0]["value"] for name, part in stored.items()} == {"one": 7.0, "two": 2.0}
    text = page.read_text(encoding="utf-8")
    assert text.index("### Part one") < text.index("**7**") < text.index("### Part two") < text.index("**2**")


def test_after_a_failure_the_others_run_and_the_exit_code_is_1(
    run_all: ModuleType, two_jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    two_jobs["one"] = "raise SystemExit('broken')"
    page = tmp_path / "results.md"
    assert begin(run_all, monkeypatch, page) == 1
    text = page.read_text(encoding="utf-8")
    assert "**failed with exit code 1: broken**" in text
    assert "**2**" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--only", "nothing"), "no benchmark is called nothing"),
        (("--peer", "/nowhere"), "holds no partial_fc_v2.py"),
        (("--data", "/nowhere"), "holds no train.rec"),
        (("--mxnet-python", "/nowhere"), "is not there"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(options: tuple[str, str], says: str) -> None:
    done = run_script(*options)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_benchmark_runs_in_small(tmp_path: Path) -> None:
    if not (ROOT / "data" / "orl" / "train.rec").is_file():
        pytest.skip("the demo faces are missing; make them: facerec data demo data/orl")
    done = run_script("--quick", "--results", str(tmp_path / "results.md"))
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert not (tmp_path / "results.md").exists()
    assert done.stdout.count("###") == 15
