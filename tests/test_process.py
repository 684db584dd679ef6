"""What names a process, also among machines of one name."""

from __future__ import annotations

import io
from typing import Any

import pytest

from facerec import process


def test_two_machines_of_one_name_have_namespaces_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"one": b"0a1b2c\n", "other": b"3d4e5f\n", "none": b"\n"}
    found = {}
    for name, number in numbers.items():

        def read(path: str, mode: str, number: bytes = number) -> Any:
            assert (path, mode) == ("/etc/machine-id", "rb")
            return io.BytesIO(number)

        monkeypatch.setattr(process, "open", read, raising=False)
        found[name] = process.pid_namespace()
        assert number.strip().decode() == "" or number.strip().decode() not in found[name]
    assert len(set(found.values())) == 3
    assert found["one"].endswith(found["none"])
