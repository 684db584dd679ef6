"""Work in processes: order, bounds, errors, and that nothing outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from facerec.data.parallel import count_workers, ordered_map
from facerec.errors import DataError, ImageError, UsageError
from facerec.process import available_cores

# A program of its own: the functions of a test file cannot be found by the processes that are spawned.
_PROGRAM = """
import os, signal, sys, time
from facerec.data.parallel import ordered_map
from facerec.errors import DataError, ImageError

def slow_square(number):
    time.sleep(0.02 * (number % 3))
    return number * number

def fail(number):
    if number == 5:
        raise ImageError("image 5 is broken")
    return number

def die(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number

def wait(number):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    function = globals()[sys.argv[1]]
    try:
        print(list(ordered_map(function, range(20), workers=2)))
    except (DataError, ImageError) as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def program(tmp_path) -> str:
    path = tmp_path / "program.py"
    path.write_text(_PROGRAM)
    return str(path)


def run(program: str, function: str) -> str:
    result = subprocess.run(
        [sys.executable, program, function], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stderr == ""
    return result.stdout.strip()


def test_results_come_in_the_order_of_the_items(program: str) -> None:
    assert run(program, "slow_square") == str([number * number for number in range(20)])


def test_an_error_of_a_worker_is_raised_as_it_is(program: str) -> None:
    assert run(program, "fail") == "ImageError image 5 is broken"


def test_a_worker_that_dies_is_said(program: str) -> None:
    assert "DataError a worker process was killed" in run(program, "die")


def test_workers_end_with_a_parent_that_is_killed(program: str) -> None:
    command = [sys.executable, program, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = ordered_map(abs, items(), workers=0)
    assert next(results) == 0
    assert len(taken) == 1
    results = ordered_map(abs, items(), workers=2, ahead=3)
    assert next(results) == 0
    assert len(taken) <= 1 + 2 * 3 + 1
    results.close()  # type: ignore[attr-defined]


def test_the_number_of_workers() -> None:
    assert count_workers(3, num_items=1) == 3
    assert count_workers(None, num_items=10) == 0
    assert count_workers(None, num_items=10**6) == count_workers(None) == available_cores() >= 1
    with pytest.raises(UsageError, match="not possible"):
        count_workers(-1)


def test_errors_keep_their_kind_without_workers() -> None:
    def fail(number: int) -> int:
        raise ImageError(str(number))

    with pytest.raises(DataError, match="0"):
        list(ordered_map(fail, range(2), workers=1))
