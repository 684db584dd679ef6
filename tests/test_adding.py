"""The pages on adding a backbone, a head, an augmentation and a metric, each followed word for word in a copy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("adding-*.md"))
_COPIED = (
    *("facerec", "tests", "configs", "studies", "docs", "benchmarks"),
    *("README.md", "README_zh.md", "pyproject.toml", "conda.yaml", "MLproject", "Makefile", "LICENSE"),
)
_CODE = r"(?:``(?P<{0}2>.+?)``|`(?P<{0}1>[^`]+)`)"
_STEP = re.compile(
    r"^(?:Make `(?P<new>[^`]+)`|In (?P<files>`[^`\n]+`(?: and `[^`\n]+`)*), (?P<place>below|above) "
    + _CODE.format("line")
    + r"):\n\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_RUN = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(page: str, root: Path) -> int:
    """Do every step of a page below ``root``; the number of steps."""
    steps = list(_STEP.finditer(page))
    for step in steps:
        if step["new"]:
            made = root / step["new"]
            assert not made.exists(), f"{step['new']} is there already"
            made.write_text(step["block"], encoding="utf-8")
            continue
        anchor = step["line2"] or step["line1"]
        for name in re.findall(r"`([^`]+)`", step["files"]):
            insert(root / name, step["block"], anchor=anchor, below=step["place"] == "below")
    return len(steps)


def insert(path: Path, block: str, *, anchor: str, below: bool) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.startswith(anchor)]
    assert len(found) == 1, f"{path.name} has {len(found)} lines that begin with {anchor!r}"
    place = found[0] + below
    path.write_text("".join([*lines[:place], block, *lines[place:]]), encoding="utf-8")


def commands(page: str) -> Iterator[str]:
    for block in _RUN.findall(page):
        yield from block.splitlines()


def test_there_is_a_page_for_each_kind() -> None:
    assert [f"adding-{what}.md" for what in ("a-backbone", "a-head", "a-metric", "an-augmentation")] == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_is_a_step_or_is_run(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert len(_STEP.findall(page)) + len(_RUN.findall(page)) == len(re.findall(r"^```\w+$", page, re.MULTILINE))
    assert len(list(commands(page))) >= 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PAGES)
def test_following_a_page_gives_what_it_says(name: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for part in _COPIED:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / part, tmp_path / part)
    assert follow(page, tmp_path) > 0
    for command in commands(page):
        words = command.replace("python ", f"{sys.executable} ", 1)
        done = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
