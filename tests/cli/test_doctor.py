from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from facerec.cli.doctor import doctor
from facerec.tracking.health.check import Check

# Not sys.path: a test that loads a served model adds that model's own copy of the package to it.
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def found(monkeypatch):
    """Sets what an examination finds."""

    def set_checks(*checks):
        calls = []
        monkeypatch.setattr("facerec.tracking.health.examine.examine", lambda *, fix: calls.append(fix) or list(checks))
        return calls

    return set_checks


def test_a_failed_check_is_shown_with_its_advice_and_gives_exit_code_1(found):
    found(
        Check(name="torch", level="fail", detail="does not fit", advice="install again"),
        Check(name="cuda", level="off", detail="none", advice="never shown"),
    )
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 1
    assert "fail  torch  does not fit" in result.output
    assert "-> install again" in result.output
    assert "never shown" not in result.output


def test_warnings_are_no_failure_and_fix_is_handed_on(found):
    calls = found(Check(name="spool", level="warn", detail="3 records", advice="facerec sync"))
    assert CliRunner().invoke(doctor, ["--fix"]).exit_code == 0
    assert calls == [True]


def test_json_is_one_object(found):
    found(Check(name="disk", level="ok", detail="much", facts={"free_gb": 3.0}))
    result = CliRunner().invoke(doctor, ["--json"])
    check = {"name": "disk", "level": "ok", "detail": "much", "advice": "", "facts": {"free_gb": 3.0}}
    assert json.loads(result.stdout) == {"ok": True, "checks": [check]}


@pytest.mark.slow
def test_the_whole_examination_is_quick_and_creates_nothing(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(REPOSITORY)
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "facerec", "doctor", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(result.stdout)
    levels = {check["name"]: check["level"] for check in report["checks"]}
    assert result.returncode == 0
    assert report["ok"] is True
    assert levels["torch"] == levels["packages"] == levels["tracking store"] == levels["mlflow run, local"] == "ok"
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - start < 60, "ten seconds on an idle machine"
