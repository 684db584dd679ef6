"""What `test_sharded.py` runs in each of its processes: ``python sharded_ranks.py RANK WORLD STORE OUTPUT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch import distributed as dist

from facerec.errors import FacerecError
from facerec.models.classification import ClassificationLoss, LossSettings
from facerec.models.heads.base import CosineHead
from facerec.models.sharded import ShardedClassificationLoss
from facerec.registry import HEADS
from facerec.training.head_parts import load_head

CLASSES = 301
DIM = 12
BATCH = 12
STEPS = 2
DTYPES = {"float64": torch.float64, "float32": torch.float32}
LOSSES = {"plain": LossSettings(), "fused": LossSettings(fused=True, chunk_mib=1)}


def build_head(name: str, dtype: torch.dtype, classes: int = CLASSES) -> CosineHead:
    torch.manual_seed(0)
    return HEADS.entry(name).load()(embedding_size=DIM, num_classes=classes, scale=32.0).to(dtype)


def joint_batch(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    embeddings = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64) * 6.0
    embeddings *= torch.rand(BATCH, 1, generator=generator, dtype=torch.float64) * 4.0
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    labels[:2] = CLASSES - 1
    return embeddings.to(dtype), labels


def train(loss: nn.Module, head: CosineHead, dtype: torch.dtype, part: slice) -> dict[str, Tensor]:
    """Two updates by plain descent; what they gave, and what the head is afterwards."""
    results: dict[str, Tensor] = {}
    for step in range(STEPS):
        embeddings, labels = joint_batch(step, dtype)
        leaf = embeddings[part].clone().requires_grad_()
        head.weight.grad = None
        output = loss(leaf, labels[part], step=step)
        output.loss.backward()
        results[f"loss{step}"] = output.loss.detach()
        results[f"correct{step}"] = output.is_correct_B.to(torch.int64)
        results[f"embedding_gradient{step}"] = leaf.grad
        results[f"weight_gradient{step}"] = head.weight.grad.clone()
        with torch.no_grad():
            head.weight -= 1e-4 * head.weight.grad
    results |= {f"state.{name}": value for name, value in head.state_dict().items() if name != "weight"}
    return results


def every_case() -> dict[str, tuple[str, str, str]]:
    names = [(entry.name, loss, dtype) for entry in HEADS for loss in LOSSES for dtype in DTYPES]
    return {"/".join(case): case for case in names}


def main(rank: int, world: int, store: str, output: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    tensors: dict[str, Tensor] = {}
    for case, (name, kind, dtype_name) in every_case().items():
        head = build_head(name, DTYPES[dtype_name])
        loss = ShardedClassificationLoss(head, LOSSES[kind], for_ddp=False)
        tensors |= {f"{case}/{key}": value for key, value in train(loss, head, DTYPES[dtype_name], part).items()}
        state = loss.head_state()
        assert (state is None) == (rank != 0)
        tensors |= {f"{case}/full.{key}": value.clone() for key, value in (state or {}).items()}
    tensors |= averaged(part)
    notes = {"sampled": sampled(part), "errors": errors(rank), "loaded": loaded(rank)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, output / f"{rank}.safetensors")
    (output / f"{rank}.json").write_text(json.dumps(notes))
    dist.destroy_process_group()


def averaged(part: slice) -> dict[str, Tensor]:
    """The gradient of a backbone after the mean over the ranks that DDP takes."""
    torch.manual_seed(3)
    backbone = nn.Linear(DIM, DIM).double()
    loss = ShardedClassificationLoss(build_head("magface", torch.float64))
    embeddings, labels = joint_batch(0, torch.float64)
    loss(backbone(embeddings[part]), labels[part]).loss.backward()
    dist.all_reduce(backbone.weight.grad)
    return {"backbone": backbone.weight.grad / dist.get_world_size()}


def sampled(part: slice) -> dict[str, Any]:
    settings = LossSettings(sample_rate=0.1, seed=5)
    loss = ShardedClassificationLoss(build_head("arcface", torch.float64), settings)
    embeddings, labels = joint_batch(0, torch.float64)
    seen = []
    for step in (0, 0, 1):
        loss.head.weight.grad = None
        output = loss(embeddings[part].clone().requires_grad_(), labels[part], step=step)
        output.loss.backward()
        touched = loss.head.weight.grad.abs().sum(1).nonzero().flatten() + loss.shard.first
        seen.append(touched.tolist())
    return {"touched": seen, "count": loss.shard.count, "first": loss.shard.first}


def errors(rank: int) -> dict[str, str]:
    found = {}
    try:
        ShardedClassificationLoss(build_head("arcface", torch.float32, classes=1))
    except FacerecError as error:
        found["classes"] = str(error)
    loss = ShardedClassificationLoss(build_head("arcface", torch.float32))
    embeddings, labels = joint_batch(0, torch.float32)
    try:
        loss(embeddings[: 2 + rank], labels[: 2 + rank])
    except FacerecError as error:
        found["batch"] = str(error)
    try:
        load_head(loss, {"weight": torch.zeros(CLASSES + 1, DIM)}, path=Path("head.safetensors"))
    except FacerecError as error:
        found["weight"] = str(error)
    return found


def loaded(rank: int) -> bool:
    """Whether a state written by one process is taken apart and put together again."""
    whole = build_head("adaface", torch.float32)
    ClassificationLoss(whole)(*joint_batch(0, torch.float32))
    state = whole.state_dict()
    torch.manual_seed(9)
    loss = ShardedClassificationLoss(HEADS.entry("adaface").load()(embedding_size=DIM, num_classes=CLASSES, scale=32.0))
    load_head(loss, state, path=Path("head.safetensors"))
    again = loss.head_state()
    return rank != 0 or all(torch.equal(again[name], value) for name, value in state.items())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
