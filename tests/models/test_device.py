"""What a device's name means here, and which precision is chosen."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from facerec.errors import DeviceError
from facerec.models import device as device_module
from facerec.models.device import Precision, choose_precision, describe_device, resolve_device


@pytest.fixture
def cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("cuda_devices")
@pytest.mark.parametrize(
    ("name", "meant"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_names_mean_devices_where_cuda_is(name: str, meant: str) -> None:
    assert resolve_device(name) == torch.device(meant)


@pytest.mark.usefixtures("no_cuda")
def test_auto_is_the_cpu_where_no_cuda_is() -> None:
    assert resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"device {name} is not there: torch sees no CUDA device; use --device"):
            resolve_device(name)


@pytest.mark.usefixtures("cuda_devices")
def test_a_number_that_is_too_high_is_told_with_the_count() -> None:
    with pytest.raises(DeviceError, match=r"device cuda:2 is not there: this machine has 2 CUDA device\(s\)"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "CPU", "cpu:0", "mps"])
def test_other_names_are_no_devices(name: str) -> None:
    with pytest.raises(DeviceError, match=f"'{name}' is no device; use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_a_cpu_computes_in_bfloat16_only_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype: torch.dtype | None
) -> None:
    monkeypatch.setattr(device_module, "cpu_has_bfloat16", lambda: has_bfloat16)
    assert choose_precision(torch.device("cpu"), amp=True) == Precision(dtype=dtype)
    assert choose_precision(torch.device("cpu"), amp=False) == Precision(dtype=None)


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_computes_in_float16_with_a_loss_scaler(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype: torch.dtype
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    # An emulated bfloat16 is slower than float16.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda *, including_emulation: asked.append(including_emulation) or has_bfloat16,
    )
    found = choose_precision(torch.device("cuda", 1), amp=True)
    assert found == Precision(dtype=dtype, needs_scaler=not has_bfloat16)
    assert asked == [False]
    assert choose_precision(torch.device("cuda", 1), amp=False) == Precision(dtype=None)


def test_a_precision_reads_as_text() -> None:
    assert str(Precision(dtype=None)) == "float32"
    assert str(Precision(dtype=torch.bfloat16)) == "bfloat16"
    assert str(Precision(dtype=torch.float16, needs_scaler=True)) == "float16 with a loss scaler"


def test_the_cpu_is_described_by_model_and_threads() -> None:
    assert describe_device(torch.device("cpu")).endswith(f"{torch.get_num_threads()} thread(s)")
