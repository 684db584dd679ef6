"""`facerec summary`: a run's result for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facerec.cli.main import main


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def write_summary(folder: Path, accuracy: float) -> dict[str, Any]:
    metrics = {"eval/orl/accuracy": accuracy, "eval/orl/accuracy_std": 0.01}
    evaluation = {"epoch": 3, "step": 30, "metrics": metrics}
    summary = {
        "run_folder": str(folder),
        "pair_sets": ["orl"],
        "untrained": None,
        "last": evaluation,
        "best": evaluation,
        "monitor": "eval/orl/accuracy",
        "images_per_s": 123.4,
        "outside_step_fraction": 0.0123,
        "skipped_records": 2,
        "roc_picture": None,
        "tracker_run_id": None,
    }
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


def test_people_get_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_summary(tmp_path / "r", 0.875)
    assert run("summary", tmp_path / "r") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run folder   {tmp_path / 'r'}"
    assert "orl          10-fold accuracy 0.8750 ± 0.0100 after the last epoch" in lines
    assert "best         epoch 3 by eval/orl/accuracy: 0.8750" in lines
    assert "speed        123 images/s (median while training); 1.2 % of the time outside of the steps" in lines
    assert "skipped      2 damaged records" in lines


def test_json_is_the_summary_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = write_summary(tmp_path / "r", 0.875)
    assert run("summary", tmp_path / "r", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == summary
    assert captured.err == ""


def test_a_configuration_means_its_latest_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    names = ["20260101_120000", "20260102_120000-9", "20260102_120000-10", "20260102_120000"]
    for number, name in enumerate(names):
        write_summary(runs / name, number / 10)
    config = tmp_path / "c.yaml"
    config.write_text("training: {epochs: 3}\n")
    assert run("summary", "--config", config, "--set", f"checkpoint.save_dir={runs}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run_folder"].endswith("20260102_120000-10")


def test_mistakes_are_told_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "summary.json").write_text("{")
    for arguments, message in (
        ([], "name a run folder, or a configuration with --config FILE"),
        ([tmp_path / "absent"], "has not finished, or this is no run folder"),
        ([tmp_path / "damaged"], "is damaged"),
    ):
        assert run("summary", *arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert message in captured.err
        assert captured.out == ""
