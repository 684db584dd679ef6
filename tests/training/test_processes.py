"""Two gloo processes give what one process with the joint batch gives (promise T4), die, stop and go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from facerec.config.load import load_config
from facerec.registry import BACKBONES
from facerec.training.loop import train
from tests.packs import damage_picture, write_pack, write_pair_set
from tests.training import plain_backbone
from tests.training.conftest import RecordingTracker

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("model", "trained_model", "head", "optimizer")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Nine identities: two processes hold five and four of the class centres.
    folder = write_pack(tmp_path_factory.mktemp("pack"), identities=9, pictures=8)
    write_pair_set(folder / "people.bin")
    return folder


@pytest.fixture(scope="module", autouse=True)
def plain() -> Iterator[None]:
    plain_backbone.register()
    yield
    del BACKBONES._entries[plain_backbone.NAME]


def write_config(folder: Path, pack: Path, *, batch_size: int, **training: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": {"backbone": plain_backbone.NAME, "embedding_size": 16},
        # AdaFace: its running statistics must be those of the joint batch.
        "head": {"type": "adaface", "scale": 8.0, "margin": 0.2, "t_alpha": 0.3},
        "data": {"root": str(pack), "batch_size": batch_size, "img_size": 32, "num_workers": 0},
        "training": {"epochs": 2, "lr": 0.05, "amp": False, "ema_decay": 0.8, "grad_clip_norm": 0.5, **training},
        "checkpoint": {"save_dir": str(folder / "runs"), "every_steps": 1},
        "logging": {"log_dir": str(folder / "logs"), "print_freq": 1, "mlflow": False},
        "eval": {"bin_file": "people.bin"},
        "device": "cpu",
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def two_processes(
    config: Path, *options: str, launcher: tuple[str, ...] = (), strike: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "FACEREC_TEST_STRIKE": strike}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *launcher]
    return subprocess.run(
        [sys.executable, *command, "-m", "tests.training.plain_backbone", "train", "--config", str(config), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def only_run(config: Path) -> Path:
    (run,) = (config.parent / "runs").glob("[0-9]*")
    return run


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name in FILES
        for key, value in load_file(run / "last" / f"{name}.safetensors").items()
    }


def history(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "history.json").read_text())
    return found


@pytest.fixture(scope="module")
def alone(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_config(tmp_path_factory.mktemp("alone"), pack, batch_size=16)
    return train(load_config(config), tracker=RecordingTracker()).run_folder


@pytest.fixture(scope="module")
def together(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_config(tmp_path_factory.mktemp("together"), pack, batch_size=8)
    result = two_processes(config)
    assert result.returncode == 0, result.stderr
    # Rank 0 alone reports.
    assert result.stdout.count("10-fold accuracy") == 1
    return only_run(config)


def assert_equal_runs(found: Path, expected: Path) -> None:
    ours, theirs = tensors(found), tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    for one, other in zip(history(found), history(expected), strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-4)


def test_two_processes_equal_one_with_the_joint_batch(together: Path, alone: Path) -> None:
    assert_equal_runs(together, alone)
    head = load_file(together / "last" / "head.safetensors")
    assert head["weight"].shape == (9, 16)
    assert head["batch_mean"] != 20.0


def test_a_record_that_both_processes_leave_out_in_turn_counts_once(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=8, pictures=8)
    damage_picture(pack, identity=1, picture=3)
    damage_picture(pack, identity=6, picture=0)
    write_pair_set(pack / "people.bin")
    config = write_config(tmp_path, pack, batch_size=8, epochs=4)
    result = two_processes(config, "--set", "data.on_bad_record=skip")
    assert result.returncode == 0, result.stderr
    # Each record comes once an epoch, to the one process or the other.
    assert json.loads((only_run(config) / "summary.json").read_text())["skipped_records"] == 2
    assert "skipped      2 damaged records" in result.stdout
    left_out = [line for line in result.stderr.splitlines() if "left out a damaged record" in line]
    assert {line.startswith("[process 1]") for line in left_out} == {True, False}


def test_sigterm_on_one_process_saves_and_one_process_goes_on(pack: Path, alone: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, pack, batch_size=8)
    result = two_processes(config, strike=f"1:5:{int(signal.SIGTERM)}")
    assert result.returncode != 0
    assert re.findall(r"exitcode *: (\d+)", result.stderr)[0] == "143"
    assert "stopped by SIGTERM after step 6" in result.stderr
    run = only_run(config)
    assert (run / "last").resolve().name == "step-00000006"
    larger = write_config(tmp_path, pack, batch_size=16, resume=str(run))
    train(load_config(larger), tracker=RecordingTracker())
    log = next((tmp_path / "logs").rglob("train.log")).read_text()
    assert "resuming with another number of processes: 2 -> 1, the joint batch 16 -> 16" in log
    assert_equal_runs(run, alone)


def test_one_process_can_go_on_as_two(pack: Path, alone: Path, tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    from facerec.training.interrupt import TrainingInterrupted

    config = write_config(tmp_path, pack, batch_size=16)
    with pytest.raises(TrainingInterrupted):
        train(load_config(config), tracker=RecordingTracker(on_metrics=stop))
    smaller = write_config(tmp_path, pack, batch_size=8)
    result = two_processes(smaller, "--resume")
    assert result.returncode == 0, result.stderr
    assert "another number of processes: 1 -> 2" in result.stderr
    assert_equal_runs(only_run(smaller), alone)


def test_a_process_that_is_killed_is_started_again_and_ends_with_the_same_bits(
    pack: Path, together: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, pack, batch_size=8)
    strike = f"1:5:{int(signal.SIGKILL)}"
    result = two_processes(config, launcher=("--max-restarts", "1"), strike=strike)
    assert result.returncode == 0, result.stderr
    assert "start 2 by the launcher: going on with" in result.stderr
    run = only_run(config)
    for name in FILES:
        path = Path("last") / f"{name}.safetensors"
        assert (run / path).read_bytes() == (together / path).read_bytes()
    assert history(run) == history(together)
    assert not list(run.parent.glob(".elastic-*"))


def test_the_option_nproc_starts_processes_and_gives_their_exit_code(pack: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, pack, batch_size=8)
    command = [sys.executable, "-m", "facerec", "train", "--config", str(config), "--nproc", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    settings = ["--set", "model.backbone=iresnet_mini", "--set", "training.epochs=1", "--set", "training.lr=1e30"]
    result = subprocess.run(
        [*command, *settings], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 1
    assert "is not finite at step" in result.stderr
    assert "Traceback" not in result.stderr
