"""`facerec register`: arguments, and what people are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from facerec.cli.register import register
from facerec.cli.train import train
from facerec.config.load import dump_yaml
from facerec.errors import UsageError
from facerec.serving import register as register_module
from facerec.serving.gate import SetComparison
from facerec.serving.register import Decision, Registration
from tests.packs import write_pack, write_pair_set
from tests.training.conftest import make_config

COMPARISON = SetComparison(
    pair_set="lfw",
    sha256="ab" * 32,
    pairs=6000,
    accuracy_new=0.99,
    accuracy_present=0.995,
    only_new_right=10,
    only_present_right=40,
    accuracy_p_value=2e-5,
    far=1e-2,
    tar_difference=-0.01,
    tar_interval=(-0.02, -0.005),
)


def registration(gate: Any, **changes: Any) -> Registration:
    values: dict[str, Any] = {
        "name": "faces",
        "version": 3,
        "uri": "models:/faces/3",
        "alias": "champion" if gate in ("first", "passed", "forced") else None,
        "present_version": 2,
        "pair_sets": ("lfw",),
        "thresholds": {"0.01": 0.2, "0.001": 0.3, "0.0001": 0.4},
        "enough_pairs": {"0.01": "yes", "0.001": "hardly", "0.0001": "no, only a bound"},
        "decision": Decision(gate=gate, reasons=tuple(COMPARISON.reasons), comparisons=(COMPARISON,)),
    }
    return Registration(**{**values, **changes})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []

    def record(model: str, **arguments: Any) -> Registration:
        seen.append({"model": model, **arguments})
        return registration("forced" if arguments["force"] else "failed")

    monkeypatch.setattr(register_module, "register", record)
    return seen


def test_everything_is_handed_on(calls: list[dict[str, Any]]) -> None:
    outcome = CliRunner().invoke(
        register,
        [
            *["--run", "abc", "--name", "faces", "--alias", "next", "--bin", "a.bin", "--bin", "b.bin", "--force"],
            *["--gallery", "g", "--runtime", "onnx", "--data-license", "CC0", "--device", "cpu", "--config", "c.yaml"],
        ],
        catch_exceptions=False,
    )
    assert outcome.exit_code == 0
    assert calls == [
        {
            "model": "runs:/abc",
            "name": "faces",
            "alias": "next",
            "config_path": "c.yaml",
            "bins": ["a.bin", "b.bin"],
            "gallery": "g",
            "runtime": "onnx",
            "data_license": "CC0",
            "force": True,
            "device": "cpu",
        }
    ]
    assert "because --force asked for it" in outcome.stdout


def test_a_model_that_is_held_back_is_told_why_and_exits_with_1(calls: list[dict[str, Any]]) -> None:
    outcome = CliRunner().invoke(register, ["--checkpoint", "c", "--name", "faces", "--alias", ""])
    assert outcome.exit_code == 1
    assert calls[0]["alias"] is None
    assert "worse: on lfw it decides 40 pairs wrongly" in outcome.stdout
    assert "worse: on lfw its TAR at FAR 1e-2 is lower by 0.0100 (95 %: 0.0050 to 0.0200)" in outcome.stdout
    assert "version 2 keeps the alias" in outcome.stdout


def test_thresholds_that_too_few_impostor_pairs_show_are_marked(calls: list[dict[str, Any]]) -> None:
    outcome = CliRunner().invoke(register, ["--checkpoint", "c", "--name", "faces"])
    assert [line for line in outcome.stdout.splitlines() if line.startswith("threshold")] == [
        "threshold at FAR 0.01: 0.2000",
        "threshold at FAR 0.001: 0.3000 (rough: few impostor pairs)",
        "threshold at FAR 0.0001: 0.4000 (only a bound: too few impostor pairs)",
    ]


def test_json_is_one_object(calls: list[dict[str, Any]]) -> None:
    outcome = CliRunner().invoke(register, ["--checkpoint", "c", "--name", "faces", "--json"])
    assert outcome.exit_code == 1
    values = json.loads(outcome.stdout)
    assert values["decision"]["gate"] == "failed"
    assert values["uri"] == "models:/faces/3"


@pytest.mark.parametrize("arguments", [[], ["--run", "a", "--checkpoint", "b"]])
def test_exactly_one_source_must_be_given(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="either --run RUN or --checkpoint PATH"):
        CliRunner().invoke(register, [*arguments, "--name", "x"], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*AnyType:UserWarning")
def test_a_training_registers_its_best_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = write_pack(tmp_path / "pack")
    write_pair_set(pack / "people.bin")
    make = make_config.__wrapped__(pack, tmp_path)
    (tmp_path / "config.yaml").write_text(dump_yaml(make(training__epochs=1, logging__mlflow=False)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'm.db'}")
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(
        train, ["--config", "config.yaml", "--register-as", "faces", "--device", "cpu"], catch_exceptions=False
    )
    assert outcome.exit_code == 0
    assert "registered models:/faces/1" in outcome.stdout
    assert "models:/faces@champion is now this version" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--dry-run"], "leave --register-as out"), (["--overfit", "2"], "leave --register-as out")],
)
def test_nothing_to_register_is_told_before_anything_starts(arguments: list[str], sentence: str) -> None:
    outcome = CliRunner().invoke(train, ["--config", "x.yaml", "--register-as", "faces", *arguments])
    assert outcome.exit_code == 2
    assert sentence in outcome.stderr


def test_a_name_that_cannot_be_registered_stops_the_training_before_it_starts() -> None:
    with pytest.raises(UsageError, match="cannot be a name in the registry"):
        CliRunner().invoke(train, ["--config", "x.yaml", "--register-as", "a/b"], catch_exceptions=False)
