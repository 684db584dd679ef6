"""A disk that is really full while a checkpoint is written: the earlier ones stay good (promise C5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facerec.fsio import check_manifest
from facerec.training.checkpoint import list_checkpoints
from tests.faults.test_kill import LAST_STEP, REPOSITORY, TENSORS, expected, make_job, pack

__all__ = ["expected", "pack"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# A name space of its own, in which anybody may mount: the disk is seen by these commands alone and goes with them.
_ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77
"$3" -m facerec train --config "$4" 2> "$5/first.txt"; echo $? > "$5/first.code"
cp -a "$2" "$5/when_full"
mount -o remount,size=256m "$2"
"$3" -m facerec train --config "$4" --resume 2> "$5/second.txt"; echo $? > "$5/second.code"
cp -a "$2" "$5/afterwards"
"""


def test_on_a_full_disk_the_earlier_checkpoints_stay_good_and_with_room_the_training_goes_on(
    pack: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = make_job(tmp_path, pack)
    # Nothing is removed, so that a disk for a few checkpoints is full soon.
    job.config.write_text(job.config.read_text().replace("every_steps: 2", "every_steps: 2\n  keep_last_n: 99"))
    job.save_dir.mkdir()
    (tmp_path / "out").mkdir()
    room = 5 * sum(len(content) for content in expected.values())
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ON_A_SMALL_DISK, "sh"]
    command += [str(room), str(job.save_dir), sys.executable, str(job.config), str(tmp_path / "out")]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if not (tmp_path / "out" / "first.code").exists():
        pytest.skip(f"this system lets nobody mount a small disk: {run.stderr.strip()}")
    out = tmp_path / "out"
    told = (out / "first.txt").read_text()
    assert (out / "first.code").read_text().strip() == "1", told
    assert "Traceback" not in told
    assert "could not be written" in told
    assert "earlier checkpoints are intact: make room and go on with --resume" in told

    (full,) = (out / "when_full").iterdir()
    kept = list_checkpoints(full)
    assert len(kept) >= 3
    for folder in kept:
        check_manifest(folder)
    assert (full / "last").resolve() == kept[-1]
    assert not list(full.glob(".partial-*"))

    assert (out / "second.code").read_text().strip() == "0", (out / "second.txt").read_text()
    (done,) = (out / "afterwards").iterdir()
    assert (done / "last").resolve().name == f"step-{LAST_STEP:08d}"
    assert {name: (done / "last" / name).read_bytes() for name in TENSORS} == expected
