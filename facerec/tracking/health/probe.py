"""Imports torch and torchvision and tells, as JSON, what they find; run as a process of its own.

A torch and a torchvision that do not belong together, or a broken driver, may end the process that imports them.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

__all__ = ["probe"]


def probe() -> dict[str, Any]:
    """Versions, devices, and what went wrong."""
    import torch

    facts: dict[str, Any] = {"torch": torch.__version__, "cuda_build": torch.version.cuda}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        has_cuda = torch.cuda.is_available()
    facts["driver_warning"] = " ".join(str(caught[0].message).split()) if caught else ""
    facts["devices"] = [_device(torch, index) for index in range(torch.cuda.device_count())] if has_cuda else []
    facts["torchvision_error"] = _torchvision_error(torch)
    return facts


def _device(torch: Any, index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "bfloat16": properties.major >= 8,
    }


def _torchvision_error(torch: Any) -> str:
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()))
