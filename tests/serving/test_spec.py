"""The description of a predictor is read as it was written, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facerec.errors import CheckpointError
from facerec.serving.spec import SPEC_FILE, read_spec, write_spec
from tests.serving.test_request import make_spec


@pytest.mark.parametrize("calibrated", [True, False])
def test_what_was_written_is_read(tmp_path: Path, calibrated: bool) -> None:
    spec = make_spec(calibrated=calibrated)
    write_spec(spec, tmp_path)
    assert read_spec(tmp_path) == spec


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"pixels": {"colour_order": "BGR", "mean": 127.5, "scale": 1 / 127.5}}, {"new_key": 1}],
)
def test_what_this_version_cannot_do_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_spec(make_spec(), tmp_path)
    content = json.loads((tmp_path / SPEC_FILE).read_text())
    (tmp_path / SPEC_FILE).write_text(json.dumps({**content, **change}))
    with pytest.raises(CheckpointError, match=SPEC_FILE):
        read_spec(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}'])
def test_damage_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / SPEC_FILE).write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_spec(tmp_path)
    with pytest.raises(CheckpointError, match="is no predictor"):
        read_spec(tmp_path / "elsewhere")
