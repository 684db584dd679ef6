"""`facerec registry`: what is registered, for people and for programs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from facerec.cli.registry import registry
from facerec.serving import versions

MODEL = {
    "name": "faces",
    "aliases": {"champion": 1},
    "versions": [
        {
            "version": 2,
            "aliases": [],
            "created_ms": 1_700_000_000_000,
            "run_id": None,
            "tags": {"gate": "failed", "lfw.accuracy": "0.9"},
            "model_card": "# two",
        },
        {
            "version": 1,
            "aliases": ["champion"],
            "created_ms": 1_700_000_000_000,
            "run_id": "abc",
            "tags": {"gate": "first"},
            "model_card": "# one",
        },
    ],
}


def test_every_page_of_the_registry_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(list):
        token = ""

    class Client:
        def search_registered_models(self, page_token: str | None = None) -> Page:
            number = int(page_token or 0)
            page = Page([SimpleNamespace(name=f"model {number}", aliases={})])
            page.token = str(number + 1) if number < 2 else None
            return page

        def search_model_versions(self, text: str) -> list[object]:
            return []

    monkeypatch.setattr(versions, "registry", lambda: nullcontext(Client()))
    assert [model["name"] for model in versions.list_models()] == ["model 0", "model 1", "model 2"]


def test_the_list_names_models_and_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "faces", "latest_version": 2, "aliases": {"champion": 1}}]
    monkeypatch.setattr(versions, "list_models", lambda: rows)
    assert CliRunner().invoke(registry, ["list"]).stdout == "faces  newest 2  champion = 1\n"
    assert json.loads(CliRunner().invoke(registry, ["list", "--json"]).stdout) == {"models": rows}
    monkeypatch.setattr(versions, "list_models", list)
    assert "nothing is registered" in CliRunner().invoke(registry, ["list"]).stdout


def test_a_model_is_shown_with_the_card_of_what_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "show_model", lambda name: MODEL)
    lines = CliRunner().invoke(registry, ["show", "faces"]).stdout.splitlines()
    assert lines[0] == "version 2  2023-11-14 22:13:20 UTC  gate: failed  accuracy: lfw 0.9"
    assert lines[1] == "version 1  @champion  2023-11-14 22:13:20 UTC  gate: first"
    assert lines[-1] == "# one"
    assert json.loads(CliRunner().invoke(registry, ["show", "faces", "--json"]).stdout) == MODEL
