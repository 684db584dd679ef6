"""The part of the page that is written by the benchmarks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def measured(claims: ModuleType, results_page: ModuleType) -> Any:
    target = claims.Target(at_most=0.4)
    found = [
        claims.ratio("good | bad", [1.0, 2.0], to=[10.0, 10.0], against="mxnet", ours="1 s", target=target, seed=3),
        claims.ratio("missed", [9.0], to=[10.0], against="mxnet", target=target),
        claims.ratio("alone", [9.0], to=[], against="mxnet", target=target),
    ]
    where = {"command": "python benchmarks/x.py", "date": "2026-01-02", "seconds": 1.5, "machine": "2 cores"}
    return results_page.Measured(title="Reading", claims=found, **where)


def test_a_line_shows_value_spread_target_and_what_it_is_compared_with(results_page: ModuleType, measured: Any) -> None:
    text = results_page.render([measured])
    assert "| good \\| bad | **0.15** | 0.1 to 0.2 (2 rounds) | ≤ 0.4 holds | 1 s | mxnet | seed 3 |" in text
    assert "| missed | **0.9** | one round | ≤ 0.4 **missed** |" in text
    assert "| alone | – |  | ≤ 0.4 |  | mxnet | peer not given |" in text
    assert "1 targets hold, 1 are missed, 1 lack a peer." in text
    assert "`python benchmarks/x.py`" in text
    assert "2 cores" in text


def test_failed_and_absent_benchmarks_are_lines_too(results_page: ModuleType, measured: Any) -> None:
    import dataclasses

    failed = dataclasses.replace(measured, claims=(), failure="failed with exit code 3: boom")
    absent = dataclasses.replace(measured, claims=(), absent="no GPU here")
    text = results_page.render([failed, absent])
    assert "**failed with exit code 3: boom**" in text
    assert "no GPU here: not measured." in text
    assert "1 benchmark(s) failed" in text


def test_what_stands_outside_of_the_marks_is_left_alone(
    results_page: ModuleType, measured: Any, tmp_path: Path
) -> None:
    page = tmp_path / "results.md"
    page.write_text(
        f"# By hand\n{results_page.BEGIN}\nfigures of last week\n{results_page.END}\nbelow\n", encoding="utf-8"
    )
    for _ in range(2):
        results_page.write_page(page, {"reader": measured})
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# By hand\n{results_page.BEGIN}\n")
    assert text.endswith(f"{results_page.END}\nbelow\n")
    assert "last week" not in text
    assert text.count("### Reading") == 1


def test_a_page_without_marks_is_not_overwritten(results_page: ModuleType, measured: Any, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("# By hand\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="are missing"):
        results_page.write_page(page, {"reader": measured})
    assert page.read_text(encoding="utf-8") == "# By hand\n"


def test_the_shipped_page_has_its_marks(results_page: ModuleType) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert page.index(results_page.BEGIN) < page.index(results_page.END)


def test_results_come_back_from_plain_data(results_page: ModuleType, measured: Any) -> None:
    import json

    plain = json.loads(json.dumps(results_page.to_dict(measured)))
    assert results_page.from_dict(plain) == measured
