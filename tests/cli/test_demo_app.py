"""`facerec demo-app`: the model is loaded before the page is offered, and only this machine gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from facerec.cli.demo_app import demo_app
from facerec.errors import MissingPathError
from facerec.serving.demo import app as app_module
from tests.serving.models import write_checkpoint


def test_the_page_is_served_on_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("uvicorn.run", lambda app, **settings: seen.append(settings))
    model = str(write_checkpoint(tmp_path / "model"))
    outcome = CliRunner().invoke(demo_app, ["--model", model, "--port", "9999"], catch_exceptions=False)
    assert seen == [{"host": "127.0.0.1", "port": 9999, "log_level": "warning"}]
    assert "http://127.0.0.1:9999" in outcome.stderr


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingPathError, match="model nowhere does not exist"):
        CliRunner().invoke(demo_app, ["--model", "nowhere"], catch_exceptions=False)


def test_the_host_is_this_machine() -> None:
    assert app_module.HOST == "127.0.0.1"
