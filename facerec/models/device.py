"""Which device a name means on this machine, and which precision pays there."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from facerec.errors import DeviceError
from facerec.process import cpu_has_bfloat16, cpu_model

__all__ = ["Precision", "choose_precision", "describe_device", "resolve_device"]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The element type of autocast, and whether the loss must be scaled."""

    dtype: torch.dtype | None
    """Type of autocast; None computes everything in float32."""
    needs_scaler: bool = False

    def __str__(self) -> str:
        name = "float32" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return f"{name} with a loss scaler" if self.needs_scaler else name


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means here.

    Raises:
        DeviceError: the device is not there, or the name is none.
    """
    kind, _, index = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise DeviceError(f"'{name}' is no device; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise DeviceError(f"device {name} is not there: torch sees no CUDA device; use --device cpu or auto")
    if index and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"device {name} is not there: this machine has {count} CUDA device(s), numbered from 0")
    return torch.device(name)


def choose_precision(device: torch.device, *, amp: bool) -> Precision:
    """bfloat16 where the hardware computes in it, else float16 with a scaler on CUDA, else float32."""
    if not amp:
        return Precision(dtype=None)
    if device.type == "cuda":
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return Precision(dtype=torch.bfloat16)
        return Precision(dtype=torch.float16, needs_scaler=True)
    return Precision(dtype=torch.bfloat16 if cpu_has_bfloat16() else None)


def describe_device(device: torch.device) -> str:
    """The device's name for people, such as ``NVIDIA H100 80GB HBM3``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} thread(s)"
