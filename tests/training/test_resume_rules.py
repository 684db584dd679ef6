"""Where a run goes on under another joint batch, and the optimiser's state by the names of the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from facerec.config.load import config_from_dict, config_to_dict
from facerec.config.schema import Config, TrainingConfig
from facerec.errors import CheckpointError
from facerec.training.checkpoint import SavedState
from facerec.training.optim import build_optimizer, parameter_groups
from facerec.training.optimizer_state import load_optimizer, split_optimizer
from facerec.training.resume import check_resumable, place_in_epoch

CPU = torch.device("cpu")


def config(batch_size: int) -> Config:
    return config_from_dict({"data": {"batch_size": batch_size}})


def state(*, batch_size: int, world_size: int, step_in_epoch: int = 0) -> SavedState:
    return SavedState(
        epoch=1,
        step_in_epoch=step_in_epoch,
        global_step=100,
        num_classes=8,
        config=config_to_dict(config(batch_size)),
        fingerprint="f",
        rng={},
        epoch_sums=[0.0, 0.0, 0.0],
        scaler={},
        optimizer={},
        evaluations=[],
        tracker_run_id=None,
        world_size=world_size,
    )


def told(saved: SavedState, present: Config, *, world_size: int) -> list[str]:
    return check_resumable(saved, present, num_classes=8, fingerprint="f", world_size=world_size)


def test_another_number_of_processes_is_told_with_the_joint_batch() -> None:
    (line,) = told(state(batch_size=32, world_size=4), config(32), world_size=2)
    assert "another number of processes: 4 -> 2, the joint batch 128 -> 64" in line
    assert "mind training.lr" in line
    (line,) = told(state(batch_size=32, world_size=4), config(64), world_size=2)
    assert "the joint batch 128 -> 128" in line
    assert "mind" not in line


@pytest.mark.parametrize("key", ["drop_path", "mask_ratio"])
def test_what_a_backbone_leaves_out_stays_as_dropout_does(key: str) -> None:
    present = dataclasses.replace(config(32), model=dataclasses.replace(config(32).model, **{key: 0.3}))
    with pytest.raises(CheckpointError, match=rf"model\.{key}: None -> 0\.3"):
        told(state(batch_size=32, world_size=1), present, world_size=1)


def test_the_loss_may_be_computed_in_another_way() -> None:
    head = dataclasses.replace(config(32).head, loss="fused", chunk_mib=64)
    present = dataclasses.replace(config(32), head=head)
    lines = told(state(batch_size=32, world_size=1), present, world_size=1)
    assert lines == [
        "resuming with another head.chunk_mib: None -> 64",
        "resuming with another head.loss: 'plain' -> 'fused'",
    ]


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        ("training", "accumulation_steps", 2, "training.accumulation_steps: 1 -> 2"),
        ("eval", "flip", False, "eval.flip: True -> False"),
        ("eval", "bin_file", "other.bin", "eval.bin_file: None -> 'other.bin'"),
        ("eval", "eval_freq", 3, "eval.eval_freq: 1 -> 3"),
        ("training", "lr", 0.01, "training.lr: 0.1 -> 0.01"),
        ("data", "on_bad_record", "skip", "data.on_bad_record: 'fail' -> 'skip'"),
    ],
)
def test_what_changes_the_course_or_the_meaning_of_an_evaluation_is_told(
    section: str, key: str, value: Any, line: str
) -> None:
    part = dataclasses.replace(getattr(config(32), section), **{key: value})
    present = dataclasses.replace(config(32), **{section: part})
    assert told(state(batch_size=32, world_size=1), present, world_size=1) == [f"resuming with another {line}"]


def test_parts_that_follow_the_number_of_processes_are_told_and_not_refused() -> None:
    present = config(64)
    present = dataclasses.replace(present, training=dataclasses.replace(present.training, accumulation_steps=4))
    parts, processes = told(state(batch_size=32, world_size=4), present, world_size=2)
    assert parts == "resuming with another training.accumulation_steps: 1 -> 4"
    assert "the joint batch 128 -> 128" in processes


def test_other_pairs_under_the_same_name_are_told() -> None:
    saved = dataclasses.replace(state(batch_size=32, world_size=1), pair_sets={"lfw": "a" * 64, "gone": "b" * 64})
    present = {"lfw": "c" * 64, "new": "d" * 64}
    (line,) = check_resumable(saved, config(32), num_classes=8, fingerprint="f", pair_sets=present)
    assert line.startswith("resuming with other pairs in 'lfw' (digest aaaaaaaaaaaa -> cccccccccccc)")
    assert check_resumable(saved, config(32), num_classes=8, fingerprint="f", pair_sets={"lfw": "a" * 64}) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("eval", "test_batch_size", 7),
        ("eval", "before_training", True),
        ("training", "early_stop", True),
        ("data", "num_workers", 0),
        ("logging", "print_freq", 1),
    ],
)
def test_what_changes_neither_is_not_told(section: str, key: str, value: Any) -> None:
    part = dataclasses.replace(getattr(config(32), section), **{key: value})
    present = dataclasses.replace(config(32), **{section: part})
    assert told(state(batch_size=32, world_size=1), present, world_size=1) == []


def test_another_batch_is_refused_unless_the_joint_batch_stays() -> None:
    with pytest.raises(CheckpointError, match=r"data\.batch_size: 32 -> 64"):
        told(state(batch_size=32, world_size=4), config(64), world_size=4)
    with pytest.raises(CheckpointError, match=r"data\.batch_size"):
        told(state(batch_size=32, world_size=1), config(64), world_size=1)
    assert told(state(batch_size=32, world_size=1), config(32), world_size=1) == []


@pytest.mark.parametrize(
    ("batch", "world", "step", "now", "steps", "expected", "again"),
    [
        (32, 4, 7, 128, 20, 7, 0),
        (32, 4, 7, 64, 40, 14, 0),
        (32, 4, 7, 256, 10, 3, 128),
        (32, 1, 5, 48, 13, 3, 16),
        # All but the last pictures are done, and the new epoch has no room for a part of a batch.
        (10, 1, 9, 45, 2, 1, 45),
    ],
)
def test_a_run_goes_on_at_the_same_picture_and_leaves_none_out(
    batch: int, world: int, step: int, now: int, steps: int, expected: int, again: int
) -> None:
    saved = state(batch_size=batch, world_size=world, step_in_epoch=step)
    place, line = place_in_epoch(saved, total_batch=now, steps_per_epoch=steps)
    assert place == expected
    assert line == "" if again == 0 else line.startswith(f"{again} pictures of this epoch are seen again")


def test_an_epoch_that_has_become_shorter_is_refused() -> None:
    with pytest.raises(CheckpointError, match="shorter now"):
        place_in_epoch(state(batch_size=8, world_size=1, step_in_epoch=9), total_batch=8, steps_per_epoch=9)


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.weight.requires_grad_(False)


def trained(**settings: Any) -> tuple[_Model, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = _Model()
    training = TrainingConfig(**settings)
    optimizer = build_optimizer(parameter_groups([("backbone", model)], training), training, device=CPU)
    return model, optimizer


def update(model: _Model, optimizer: torch.optim.Optimizer) -> None:
    for number, weight in enumerate(model.parameters()):
        if weight.requires_grad:
            weight.grad = torch.full_like(weight, 0.1 * (number + 1))
    optimizer.step()


@pytest.mark.parametrize("optimizer_name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_state_fits_other_groups_and_is_read_in_the_older_format(optimizer_name: str, legacy: bool) -> None:
    model, optimizer = trained(optimizer=optimizer_name)
    update(model, optimizer)
    tensors, scalars = split_optimizer(optimizer, model.named_parameters())
    if legacy:
        order = [name for name, weight in model.named_parameters() if weight.requires_grad]
        tensors = {
            f"{order.index(key.rpartition('.')[0])}.{key.rpartition('.')[2]}": value for key, value in tensors.items()
        }
        scalars = {**scalars, "groups": []}
    other, another = trained(optimizer=optimizer_name, no_decay=("bias",))
    load_optimizer(another, other.named_parameters(), tensors=tensors, scalars=scalars, source=Path("c"))
    for weight, same in zip(model.parameters(), other.parameters(), strict=True):
        for field, value in optimizer.state.get(weight, {}).items():
            assert torch.equal(another.state[same][field], value)
    assert another.state[other.conv.weight].keys() == optimizer.state[model.conv.weight].keys()


def test_the_state_of_another_optimiser_or_model_is_refused() -> None:
    model, optimizer = trained()
    tensors, scalars = split_optimizer(optimizer, model.named_parameters())
    other, adam = trained(optimizer="adam")
    with pytest.raises(CheckpointError, match="trained with SGD, not with Adam"):
        load_optimizer(adam, other.named_parameters(), tensors=tensors, scalars=scalars, source=Path("c"))
    tensors["gone.weight.momentum_buffer"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"no weight 'gone\.weight'"):
        load_optimizer(optimizer, model.named_parameters(), tensors=tensors, scalars=scalars, source=Path("c"))
