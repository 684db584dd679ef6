"""Settings of speed that torch keeps for the whole process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from facerec.config.schema import TrainingConfig
from facerec.errors import ConfigError
from facerec.training import acceleration
from facerec.training.acceleration import accelerate_backbone, allow_tf32
from facerec.training.distributed import World


@pytest.mark.parametrize("enabled", [True, False])
def test_tf32_is_set_and_can_be_asked_for_as_torch_export_does(enabled: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(enabled=enabled)
        assert torch.backends.cudnn.allow_tf32 is enabled
        assert torch.backends.cuda.matmul.allow_tf32 is enabled
        assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if enabled else "none")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"data_parallel": True}, "several processes have taken its place"),
        ({"compile": "reduce-overhead"}, "replays CUDA graphs, which do not exchange gradients"),
        ({"compile": "max-autotune"}, "use default or max-autotune-no-cudagraphs"),
    ],
)
def test_what_several_processes_cannot_do_is_one_sentence(
    settings: dict, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "DistributedDataParallel", lambda module, **_: module)
    with pytest.raises(ConfigError, match=problem):
        accelerate_backbone(
            nn.Linear(2, 2), TrainingConfig(**settings), device=torch.device("cpu"), world=World(size=2)
        )


@pytest.mark.parametrize(("setting", "mode"), [(True, "default"), ("max-autotune", "max-autotune")])
def test_the_compiler_gets_the_mode_and_shapes_that_stay(
    setting: bool | str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(torch, "compile", lambda module, **settings: asked.append(settings) or module)
    backbone = nn.Linear(2, 2)
    config = TrainingConfig(compile=setting)
    assert accelerate_backbone(backbone, config, device=torch.device("cpu"), world=World()) is backbone
    assert asked == [{"mode": mode, "dynamic": False}]


_COUNT_FAULTS = """
import resource, torch
from facerec.process import keep_freed_memory
torch.set_num_threads(1)
if {keep}:
    assert keep_freed_memory()
faults = []
for smaller in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # 64 MiB, more than glibc ever keeps by itself; each fits into what the one before has left.
    torch.ones(16 * 2**20 - 1024 * smaller)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# The first rounds take new memory in either case, and a system short of it takes pages back.
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")
@pytest.mark.parametrize("keep", [True, False])
def test_memory_that_is_kept_needs_no_new_pages(keep: bool) -> None:
    command = [sys.executable, "-c", _COUNT_FAULTS.format(keep=keep)]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    pages = 64 * 2**20 // 4096
    assert faults < pages // 100 if keep else faults > 10
