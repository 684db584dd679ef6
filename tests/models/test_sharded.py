"""Two and three real processes against one with the joint batch, for every head, plain and fused."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facerec.models.classification import ClassificationLoss
from facerec.models.shards import Shard

_SCRIPT = Path(__file__).with_name("sharded_ranks.py")
_ROOT = Path(__file__).parents[2]


def _load_script() -> Any:
    spec = importlib.util.spec_from_file_location("sharded_ranks", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ranks = _load_script()
TOLERANCE = {"float64": 1e-9, "float32": 5e-6}
"""Relative to the largest entry; float32 sums in another order differ by a few times its rounding."""


def run_ranks(world: int, folder: Path) -> tuple[list[dict[str, Tensor]], list[dict[str, Any]]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(_SCRIPT), str(rank), str(world), str(folder / "store"), str(folder)],
            env=environment,
            cwd=_ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    outcomes = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, outcomes
    tensors = [load_file(folder / f"{rank}.safetensors") for rank in range(world)]
    return tensors, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module", params=[pytest.param(world, marks=pytest.mark.slow) for world in (2, 3)])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Tensor]], list[dict[str, Any]]]:
    return run_ranks(request.param, tmp_path_factory.mktemp("ranks"))


def close(actual: Tensor, expected: Tensor, dtype: str) -> None:
    """Equal to ``TOLERANCE`` of the largest entry."""
    size = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[dtype] * size)


@pytest.mark.parametrize("case", ranks.every_case())
def test_ranks_give_what_one_process_gives_with_the_joint_batch(case: str, results: Any) -> None:
    tensors, _ = results
    name, kind, dtype = ranks.every_case()[case]
    head = ranks.build_head(name, ranks.DTYPES[dtype])
    expected = ranks.train(ClassificationLoss(head, ranks.LOSSES[kind]), head, ranks.DTYPES[dtype], slice(None))
    for key, value in expected.items():
        parts = [rank[f"{case}/{key}"] for rank in tensors]
        if key.startswith(("loss", "state.")):
            for part in parts:
                close(part, value, dtype)
        else:
            close(torch.cat(parts), value, dtype)
    close(tensors[0][f"{case}/full.weight"], head.weight.detach(), dtype)
    assert {key.removeprefix(f"{case}/full.") for key in tensors[0] if key.startswith(f"{case}/full.")} == set(
        head.state_dict()
    )


def test_mean_over_ranks_of_a_backbone_gradient_as_ddp_takes_it_is_that_of_one_process(results: Any) -> None:
    tensors, _ = results
    torch.manual_seed(3)
    backbone = nn.Linear(ranks.DIM, ranks.DIM).double()
    embeddings, labels = ranks.joint_batch(0, torch.float64)
    ClassificationLoss(ranks.build_head("magface", torch.float64))(backbone(embeddings), labels).loss.backward()
    for rank in tensors:
        torch.testing.assert_close(rank["backbone"], backbone.weight.grad, rtol=1e-9, atol=1e-9)


def test_sample_keeps_the_classes_of_the_joint_batch_and_can_be_drawn_again(results: Any) -> None:
    _, notes = results
    labels = set(ranks.joint_batch(0, torch.float64)[1].tolist())
    touched = [set().union(*(rank["sampled"]["touched"][draw] for rank in notes)) for draw in range(3)]
    assert touched[0] == touched[1] != touched[2]
    assert all(labels <= draw for draw in touched)
    for rank in notes:
        sampled = rank["sampled"]
        assert len(sampled["touched"][0]) == max(-(-sampled["count"] // 10), ranks.BATCH)
        assert all(0 <= row - sampled["first"] < sampled["count"] for row in sampled["touched"][0])


def test_what_cannot_work_is_said_on_every_rank(results: Any) -> None:
    _, notes = results
    for rank in notes:
        assert "1 classes cannot be split over" in rank["errors"]["classes"]
        assert "batches of different sizes: [2, 3" in rank["errors"]["batch"]
        assert "head.safetensors holds no centres of 301 classes" in rank["errors"]["weight"]


def test_state_of_one_process_loads_on_several_and_comes_back_whole(results: Any) -> None:
    assert all(rank["loaded"] for rank in results[1])


@pytest.mark.parametrize(("classes", "world"), [(7, 2), (8, 4), (301, 4), (5, 5), (93431, 8)])
def test_parts_follow_one_another_and_differ_by_one_class_at_most(classes: int, world: int) -> None:
    parts = [Shard(num_classes=classes, rank=rank, world=world) for rank in range(world)]
    assert [part.count for part in parts] == [classes // world + (rank < classes % world) for rank in range(world)]
    assert [part.first for part in parts] == [sum(p.count for p in parts[:rank]) for rank in range(world)]
    assert parts[-1].first + parts[-1].count == classes
