"""A training process that is killed or asked to stop, and goes on with --resume (promises C1, C2, C6)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from facerec.fsio import check_manifest
from facerec.training.checkpoint import list_checkpoints
from tests.packs import write_pack

REPOSITORY = Path(__file__).resolve().parents[2]
TENSORS = ("model.safetensors", "head.safetensors", "optimizer.safetensors")
STEPS_PER_EPOCH = 20
LAST_STEP = 2 * STEPS_PER_EPOCH

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Job:
    """A configuration file, and where its runs go."""

    config: Path
    save_dir: Path

    @property
    def run(self) -> Path:
        (folder,) = self.save_dir.iterdir()
        return folder

    def start(self, *options: str) -> subprocess.Popen[str]:
        # A session of its own, so that a signal to its group reaches the workers and spares pytest.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(
            [sys.executable, "-m", "facerec", "train", "--config", str(self.config), *options],
            cwd=self.config.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def strike(self, number: signal.Signals, *, after_step: int) -> tuple[int, str]:
        """Start, signal the whole process group once that step is saved; the exit code and standard error."""
        process = self.start()
        try:
            deadline = time.monotonic() + 90
            while newest_step(self.save_dir) < after_step:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "no checkpoint came"
                time.sleep(0.005)
            os.killpg(process.pid, number)
            _, errors = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, errors

    def finish(self, *options: str) -> str:
        """Run to the end; standard error."""
        process = self.start(*options)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return errors


def newest_step(save_dir: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in save_dir.glob("*/step-*")), default=-1)


def final_bytes(run: Path) -> dict[str, bytes]:
    assert (run / "last").resolve().name == f"step-{LAST_STEP:08d}"
    return {name: (run / "last" / name).read_bytes() for name in TENSORS}


def make_job(folder: Path, pack: Path, *, num_workers: int = 0) -> Job:
    settings = {
        "model": {"backbone": "iresnet_mini", "embedding_size": 32, "dropout": 0.2},
        "head": {"scale": 16.0, "margin": 0.2},
        "data": {"root": str(pack), "batch_size": 16, "img_size": 32, "num_workers": num_workers},
        "training": {"epochs": 2, "lr": 0.05, "amp": False, "monitor": "train/loss", "mode": "min"},
        "checkpoint": {"save_dir": str(folder / "runs"), "every_steps": 2},
        "logging": {"log_dir": str(folder / "logs"), "print_freq": 1, "mlflow": False},
        "device": "cpu",
    }
    config = folder / "c.yaml"
    config.write_text(yaml.safe_dump(settings))
    return Job(config=config, save_dir=folder / "runs")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"), identities=16, pictures=STEPS_PER_EPOCH)


@pytest.fixture(scope="module")
def expected(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    job = make_job(tmp_path_factory.mktemp("whole"), pack)
    job.finish()
    return final_bytes(job.run)


def test_after_kill_9_in_mid_epoch_resume_ends_with_the_same_bytes(
    pack: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = make_job(tmp_path, pack)
    code, _ = job.strike(signal.SIGKILL, after_step=4)
    assert code == -signal.SIGKILL
    struck_at = newest_step(job.save_dir)
    assert 4 <= struck_at < STEPS_PER_EPOCH
    before = list_checkpoints(job.run)
    for folder in before:
        check_manifest(folder)
    assert (job.run / "last" / "model.safetensors").read_bytes() != expected["model.safetensors"]
    errors = job.finish("--resume")
    assert f"epoch 1, step {struck_at} of it" in errors or f"epoch 1, step {struck_at - 2} of it" in errors
    assert final_bytes(job.run) == expected
    assert not list(job.run.glob(".partial-*"))


def test_sigterm_saves_says_how_to_go_on_and_resume_ends_with_the_same_bytes(
    pack: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = make_job(tmp_path, pack, num_workers=2)
    code, errors = job.strike(signal.SIGTERM, after_step=4)
    assert code == 128 + signal.SIGTERM
    sentence = errors.splitlines()[-1]
    assert sentence.startswith("error: stopped by SIGTERM after step ")
    assert str(job.run) in sentence
    assert "--resume" in sentence
    assert "Traceback" not in errors
    stopped_at = int(sentence.split("after step ")[1].split(";")[0])
    assert json.loads((job.run / "last" / "state.json").read_text())["global_step"] == stopped_at < LAST_STEP
    check_manifest(job.run / "last")
    assert "resumed from" in job.finish(f"--resume={job.run}")
    assert final_bytes(job.run) == expected
