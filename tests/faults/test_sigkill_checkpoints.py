"""A checkpoint has its final name only once it is complete, whenever the process dies (promise C1)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facerec.errors import CheckpointError
from facerec.fsio import check_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_KILLS = 50

# One interpreter imports torch; each child that it forks saves until it is killed.
_SAVE_UNTIL_KILLED = """
import contextlib, os, random, signal, sys, time
from pathlib import Path

import torch

from facerec.training import checkpoint
from facerec.training.checkpoint import SavedState, list_checkpoints, save_checkpoint

torch.set_num_threads(1)
run, num_kills, atomic = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "atomic"

@contextlib.contextmanager
def write_in_place(final):
    final.mkdir()
    yield final

if not atomic:
    checkpoint.atomic_folder = write_in_place

backbone, head = torch.nn.Linear(128, 128), torch.nn.Linear(128, 8)
weights = [*backbone.parameters(), *head.parameters()]
optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
head(backbone(torch.ones(1, 128))).sum().backward()
optimizer.step()

def save(step):
    state = SavedState(
        epoch=0, step_in_epoch=step, global_step=step, num_classes=8, config={}, fingerprint="f", rng={},
        epoch_sums=[0.0, 0.0, 0], scaler={}, optimizer={}, evaluations=[], tracker_run_id=None,
    )
    momentum = {str(i): optimizer.state[weight]["momentum_buffer"] for i, weight in enumerate(weights)}
    files = {"model": backbone.state_dict(), "head": head.state_dict(), "optimizer": momentum}
    save_checkpoint(run, state, files=files)

started = time.perf_counter()
save(1)
save(2)
seconds_per_save = (time.perf_counter() - started) / 2
draw = random.Random(7)
for _ in range(num_kills):
    steps = [int(path.name[5:]) for path in list_checkpoints(run)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        step = max(steps, default=0)
        while True:
            step += 1
            save(step)
            os.write(writer, b"s")
    # About every second child completes a save, however busy the machine is; then the blow falls in a later one.
    if draw.random() < 0.5:
        os.read(reader, 1)
    time.sleep(draw.uniform(0.1, 1.0) * seconds_per_save)
    os.kill(child, signal.SIGKILL)
    os.close(reader), os.close(writer)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
"""


def kill_many(run: Path, how: str, *, num_kills: int) -> list[Path]:
    """Let processes save into ``run`` until they are killed; the folders under final names."""
    run.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", _SAVE_UNTIL_KILLED, str(run), str(num_kills), how],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return sorted(run.glob("step-*"))


@pytest.mark.slow
def test_every_checkpoint_under_a_final_name_is_complete_after_50_kills(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folders = kill_many(run, "atomic", num_kills=NUM_KILLS)
    assert len(folders) >= NUM_KILLS // 5
    for folder in folders:
        assert check_manifest(folder)["step"] == int(folder.name.removeprefix("step-"))
    assert (run / "last").resolve() in folders
    # The kills did strike while something was being written.
    assert list(run.glob(".partial-step-*"))


@pytest.mark.slow
def test_writing_under_the_final_name_fails_the_same_check(tmp_path: Path) -> None:
    damaged = 0
    for folder in kill_many(tmp_path / "run", "in place", num_kills=NUM_KILLS // 3):
        try:
            check_manifest(folder)
        except CheckpointError:
            damaged += 1
    assert damaged >= 1
