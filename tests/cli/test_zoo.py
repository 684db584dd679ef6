"""``facerec zoo``: what a configuration can name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from facerec.cli.zoo import zoo
from facerec.errors import ConfigError
from facerec.models import sizes
from facerec.registry import BACKBONES, HEADS


def test_json_lists_every_backbone_and_head_with_size_options_and_source() -> None:
    result = CliRunner().invoke(zoo, ["--json"])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert [row["name"] for row in listed["backbones"]] == BACKBONES.names()
    assert [row["name"] for row in listed["heads"]] == HEADS.names()
    iresnet50 = next(row for row in listed["backbones"] if row["name"] == "iresnet50")
    assert (iresnet50["params"], iresnet50["macs"], iresnet50["embedding_size"]) == (43_590_848, 6_309_330_944, 512)
    arcface = next(row for row in listed["heads"] if row["name"] == "arcface")
    assert arcface["options"] == {"margin": 0.5, "gradient": "straight_through", "easy_margin": False}
    assert all(row["source"] for row in [*listed["backbones"], *listed["heads"]])


def test_table_shows_every_name_and_the_published_figures() -> None:
    result = CliRunner().invoke(zoo)
    assert result.exit_code == 0
    assert all(name in result.output for name in [*BACKBONES.names(), *HEADS.names()])
    line = next(line for line in result.output.splitlines() if "iresnet100" in line)
    assert "65.16 M" in line
    assert "12.09 G" in line
    assert "gradient=straight_through, easy_margin=false" in result.output


def test_backbone_without_a_listed_size_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = json.loads(CliRunner().invoke(zoo, ["--json"]).stdout)
    monkeypatch.delitem(sizes.SIZES, "mobilefacenet")
    assert json.loads(CliRunner().invoke(zoo, ["--json"]).stdout) == listed


def test_families_are_listed_with_the_extra_that_they_need() -> None:
    listed = json.loads(CliRunner().invoke(zoo, ["--json"]).stdout)
    assert [(row["name"], row["extra"]) for row in listed["families"]] == [("timm:NAME", "timm")]
    assert "timm:NAME" in CliRunner().invoke(zoo).output


def test_named_backbones_alone_are_measured() -> None:
    pytest.importorskip("timm", reason="timm is not installed; it is the extra of that name")
    result = CliRunner().invoke(zoo, ["timm:resnet18", "mobilefacenet_paper", "--json"], catch_exceptions=False)
    listed = json.loads(result.stdout)
    assert set(listed) == {"image_hw", "backbones"}
    resnet, paper = listed["backbones"]
    assert (resnet["name"], paper["name"]) == ("timm:resnet18", "mobilefacenet_paper")
    assert resnet["params"] == sizes.SIZES["resnet18"][0]
    assert (paper["params"], paper["macs"]) == sizes.SIZES["mobilefacenet_paper"]
    assert "Heads" not in CliRunner().invoke(zoo, ["mobilefacenet"]).output


def test_unknown_names_are_told_with_the_nearest() -> None:
    result = CliRunner().invoke(zoo, ["mobilefacenet_papr"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ConfigError)
    assert "did you mean 'mobilefacenet_paper'?" in str(result.exception)


def test_listing_loads_no_torch() -> None:
    script = (
        "import sys; from facerec.cli.main import cli; "
        "cli(['zoo'], standalone_mode=False); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.splitlines()[-1] == "False"
