"""The Triton kernels against the torch version, on a GPU or in Triton's interpreter, which needs its own process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_ROOT = Path(__file__).parents[2]

_COMPARE = """
import sys
import torch
from facerec.models import chunks, chunks_triton
from facerec.models.chunks import LOWEST, ChunkRule
device, worst = sys.argv[1], 0.0
for rows, classes in ((5, 1500), (3, 1024), (4, 7)):
    torch.manual_seed(rows)
    products = (torch.rand(rows, classes) * 40 - 20).to(device)
    inverse_norms = (torch.rand(classes) + 0.5).to(device)
    columns = torch.tensor([0, classes - 1, -1, classes, 3][:rows], device=device)
    hard = {"hard_threshold_B": torch.rand(rows, device=device) * 5, "hard_t": torch.tensor(0.3, device=device)}
    for limit in (None, 9.0):
        for rule_hard in ({"hard_threshold_B": None, "hard_t": None}, hard):
            rule = ChunkRule(limit=limit, scale=16.0, sub_centres=1, **rule_hard)
            found = []
            for kernels in (chunks, chunks_triton):
                largest = torch.full((rows,), LOWEST, device=device)
                sums = torch.zeros(rows, device=device)
                for _ in range(2):
                    kernels.absorb_chunk(
                        products.clone(), inverse_norms, columns, rule=rule, largest_B=largest, sums_B=sums
                    )
                gradient = kernels.chunk_gradient(
                    products.clone(), inverse_norms, columns, rule=rule, lse_B=largest + sums.log(),
                    gradient_B=torch.linspace(0.1, 1.0, rows, device=device),
                    label_gradient_B=torch.linspace(-1.0, 0.5, rows, device=device),
                )
                found.append((largest, sums, gradient))
            for torch_one, triton_one in zip(*found, strict=True):
                torch.testing.assert_close(triton_one, torch_one, rtol=2e-5, atol=2e-6)
                assert torch_one.isfinite().all()

from facerec.models import fused
from facerec.models.classification import ClassificationLoss, LossSettings
from facerec.registry import HEADS
fused._kernels = lambda *_: fused._Kernels(chunks_triton.absorb_chunk, chunks_triton.chunk_gradient)
for name in ("arcface", "adaface", "curricularface", "adacos"):
    found = []
    for settings in (LossSettings(), LossSettings(fused=True, chunk_mib=1)):
        torch.manual_seed(0)
        head = HEADS.entry(name).load()(embedding_size=8, num_classes=40, scale=32.0).to(device)
        head.weight.data.mul_(100.0)
        embeddings = torch.randn(6, 8, device=device, requires_grad=True)
        labels = torch.randint(40, (6,), device=device)
        output = ClassificationLoss(head, settings)(embeddings, labels)
        output.loss.backward()
        found.append((output.loss.detach(), embeddings.grad, head.weight.grad, output.is_correct_B))
    for plain, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-5)
print("equal")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    "device",
    [pytest.param("interpreter", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.cuda)],
)
def test_kernels_give_the_numbers_of_the_torch_version(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if device == "interpreter":
        environment["TRITON_INTERPRET"] = "1"
    result = subprocess.run(
        [sys.executable, "-c", _COMPARE, "cpu" if device == "interpreter" else "cuda"],
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.stdout.strip() == "equal", result.stderr[-3000:]


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["arcface", "adaface", "curricularface"])
def test_fused_loss_on_a_gpu_equals_the_plain_loss(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from facerec.models.classification import ClassificationLoss, LossSettings
    from facerec.registry import HEADS

    found = []
    for settings in (LossSettings(), LossSettings(fused=True, chunk_mib=1)):
        torch.manual_seed(0)
        head = HEADS.entry(name).load()(embedding_size=64, num_classes=5000, scale=64.0).cuda()
        head.weight.data.mul_(100.0)
        embeddings = torch.randn(32, 64, device="cuda", requires_grad=True)
        labels = torch.randint(5000, (32,), device="cuda")
        output = ClassificationLoss(head, settings)(embeddings, labels)
        output.loss.backward()
        found.append((output.loss.detach(), embeddings.grad, head.weight.grad, output.is_correct_B))
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)
