"""`facerec export`: arguments and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from facerec.cli.export import export
from facerec.serving import exporting
from facerec.serving.exporting import Export, SetAccuracy
from tests.serving.models import write_checkpoint


def test_safetensors_of_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model")
    out = tmp_path / "new" / "weights.safetensors"
    outcome = CliRunner().invoke(
        export,
        [str(out), "--model", str(checkpoint), "--format", "safetensors", "--json"],
        catch_exceptions=False,
    )
    values = json.loads(outcome.stdout)
    assert values["path"] == str(out)
    assert values["bytes"] == out.stat().st_size
    assert values["max_difference"] == 0.0


def test_the_cost_of_a_quantisation_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def record(model: str, out: Path, **arguments: Any) -> Export:
        seen.append({"model": model, "out": out, **arguments})
        accuracy = SetAccuracy(
            pair_set="lfw",
            sha256="ab",
            accuracy_model=0.99,
            accuracy_exported=0.985,
            tar_model=0.9,
            tar_exported=0.91,
        )
        return Export(
            path=str(out),
            format="onnx",
            quantisation="static",
            bytes=2_000_000,
            max_difference=0.012,
            accuracies=(accuracy,),
        )

    monkeypatch.setattr(exporting, "export", record)
    outcome = CliRunner().invoke(
        export,
        ["o", "--model", "m", "--format", "onnx", "--int8", "static", "--calibration", "c.bin", "--bin", "lfw.bin"],
        catch_exceptions=False,
    )
    assert seen == [
        {
            "model": "m",
            "out": Path("o"),
            "format": "onnx",
            "config_path": None,
            "bins": ["lfw.bin"],
            "quantisation": "static",
            "calibration": "c.bin",
        }
    ]
    assert outcome.stdout.splitlines() == [
        "o: onnx, int8 static, 2.00 MB, largest difference of an embedding's component 0.012",
        "lfw: accuracy 0.9900 -> 0.9850 (-0.0050), TAR at FAR 1e-3 0.9000 -> 0.9100 (+0.0100)",
    ]
