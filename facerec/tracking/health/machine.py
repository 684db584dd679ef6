"""Torch, the devices and the disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from facerec.process import available_cores, cpu_flags, cpu_has_bfloat16
from facerec.tracking.health.check import Check

__all__ = ["TorchProbe", "check_cpu", "check_disk"]

_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_PROBE_WITHIN_S = 60.0
_LITTLE_GB = 5.0
_TOO_LITTLE_GB = 0.5
_CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


class TorchProbe:
    """Looks at torch in another process, which runs while this one goes on."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            # -P: a file in the working folder must not stand in for a package.
            [sys.executable, "-P", "-m", "facerec.tracking.health.probe"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def checks(self) -> list[Check]:
        """Wait for the answer: one check of torch with torchvision, one of the CUDA devices."""
        try:
            output, errors = self._process.communicate(timeout=_PROBE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return [_torch_fails(f"importing torch took more than {_PROBE_WITHIN_S:.0f} s")]
        if self._process.returncode != 0:
            last_line = (errors.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
            return [_torch_fails(f"torch cannot be imported: {last_line}")]
        facts: dict[str, Any] = json.loads(output)
        return [_check_torch(facts), _check_cuda(facts)]


def check_cpu() -> Check:
    """How many processors there are and which of their features matter."""
    count = available_cores()
    flags = cpu_flags()
    features = [feature for feature in _CPU_FEATURES if feature in flags]
    bfloat16 = "fast" if cpu_has_bfloat16() else "emulated"
    detail = f"{count} of {platform.machine()}; {', '.join(features) or 'no known vector units'}; bfloat16 {bfloat16}"
    return Check(name="cpu", level="ok", detail=detail, facts={"count": count, "features": features})


def check_disk(folder: Path) -> Check:
    """Whether ``folder`` has room for checkpoints."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    facts = {"free_gb": round(free_gb, 1)}
    detail = f"{free_gb:.1f} GB free in {folder.absolute()}"
    if free_gb >= _LITTLE_GB:
        return Check(name="disk", level="ok", detail=detail, facts=facts)
    level = "fail" if free_gb < _TOO_LITTLE_GB else "warn"
    advice = "make room, or set checkpoint.save_dir to a larger disk"
    return Check(name="disk", level=level, detail=detail, advice=advice, facts=facts)


def _check_torch(facts: dict[str, Any]) -> Check:
    if facts["torchvision_error"]:
        return Check(
            name="torch",
            level="fail",
            detail=f"torch {facts['torch']} and torchvision do not work together ({facts['torchvision_error']})",
            advice="install both from the same index in one command: pip install --force-reinstall torch torchvision",
            facts=facts,
        )
    build = f"built for CUDA {facts['cuda_build']}" if facts["cuda_build"] else "built without CUDA"
    return Check(name="torch", level="ok", detail=f"{facts['torch']}, {build}; torchvision fits", facts=facts)


def _check_cuda(facts: dict[str, Any]) -> Check:
    devices = facts["devices"]
    shown = [
        f"{device['name']} {device['memory_gib']} GiB, bfloat16 {'yes' if device['bfloat16'] else 'no'}"
        for device in devices
    ]
    if devices:
        return Check(name="cuda", level="ok", detail="; ".join(shown), facts={"devices": devices})
    if facts["driver_warning"] or Path("/proc/driver/nvidia").exists():
        return Check(
            name="cuda",
            level="warn",
            detail=facts["driver_warning"] or "an NVIDIA driver is loaded, but torch finds no device",
            advice="update the driver, or install a torch built for an older CUDA; training runs on the CPU",
        )
    return Check(name="cuda", level="off", detail="no CUDA device; training runs on the CPU")


def _torch_fails(detail: str) -> Check:
    advice = "install torch and torchvision again: pip install --force-reinstall torch torchvision"
    return Check(name="torch", level="fail", detail=detail, advice=advice)
