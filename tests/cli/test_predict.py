"""`facerec predict`: a similarity, and a decision where a threshold is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from facerec.cli.predict import predict
from facerec.errors import UsageError
from facerec.models.weights import load_backbone
from facerec.serving.package import spec_of, stage
from tests.serving.models import face, write_checkpoint
from tests.serving.test_request import make_spec


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        path.write_bytes(face(1))
        paths.append(str(path))
    return paths


def test_a_checkpoint_gives_a_similarity_and_knows_no_rate(tmp_path: Path, pictures: list[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "model")
    outcome = CliRunner().invoke(predict, [*pictures, "--model", str(checkpoint)], catch_exceptions=False)
    assert outcome.stdout == "1.000000\n"
    with pytest.raises(UsageError, match="knows no threshold"):
        CliRunner().invoke(predict, [*pictures, "--model", str(checkpoint), "--far", "0.01"], catch_exceptions=False)


def test_a_predictor_decides(tmp_path: Path, pictures: list[str]) -> None:
    loaded = load_backbone(write_checkpoint(tmp_path / "model"), device=torch.device("cpu"))
    spec = spec_of(loaded.config, runtime="torch", calibration=make_spec().calibration)
    folder = stage(loaded, spec, tmp_path / "staged", card="").predictor
    arguments = [*pictures, "--model", str(folder), "--far", "0.01"]
    assert CliRunner().invoke(predict, arguments, catch_exceptions=False).stdout == "1.000000  same person\n"
    values = json.loads(CliRunner().invoke(predict, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (values["threshold"], values["far"], values["same_person"]) == (0.3, 0.01, True)
    assert values["far_at_most"] == 0.02
