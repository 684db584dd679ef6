"""What names a process, also among machines of one name."""

from __future__ import annotations

import io
from pathlib import Path
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


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("150000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 6), ("", 6), (None, 6)],
)
def test_the_quota_of_a_container_counts_among_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, expected: int
) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(process, "_QUOTA_FILE", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert process.available_cores() == expected


@pytest.mark.parametrize(
    ("text", "flags", "has_bfloat16"),
    [
        ("model name\t: One\nflags\t\t: fpu avx2 avx512_bf16\nflags\t: other\n", {"fpu", "avx2", "avx512_bf16"}, True),
        ("flags\t: fpu amx_bf16\n", {"fpu", "amx_bf16"}, True),
        ("flags\t: fpu avx512f\n", {"fpu", "avx512f"}, False),
        ("Features\t: fp asimd\n", {"fp", "asimd"}, False),
        (None, set(), False),
    ],
)
def test_a_processor_says_what_it_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, flags: set[str], has_bfloat16: bool
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(process, "_CPU_FILE", tmp_path / "cpuinfo")
    assert process.cpu_flags() == flags
    assert process.cpu_has_bfloat16() is has_bfloat16
    assert process.cpu_model() == ("One" if text and "One" in text else "CPU")
