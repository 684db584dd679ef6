"""The whole examination."""

from __future__ import annotations

from pathlib import Path

from facerec.tracking.health.check import Check
from facerec.tracking.health.environments import check_environments
from facerec.tracking.health.machine import TorchProbe, check_cpu, check_disk
from facerec.tracking.health.packages import check_packages, check_python
from facerec.tracking.health.stores import check_spool, check_store
from facerec.tracking.spool import DEFAULT_SPOOL_DIR

__all__ = ["examine"]


def examine(*, fix: bool) -> list[Check]:
    """Look at everything; ``fix`` also closes runs whose process is gone. Nothing else is changed or created."""
    packages = check_packages()
    if packages.level == "fail":
        # What is missing would end the other checks.
        return [check_python(), packages, *check_environments(), check_cpu(), check_disk(Path())]
    torch_probe = TorchProbe()
    store = [*check_store(fix=fix), check_spool(DEFAULT_SPOOL_DIR)]
    return [
        check_python(),
        packages,
        *torch_probe.checks(),
        check_cpu(),
        check_disk(Path()),
        *check_environments(),
        *store,
    ]
