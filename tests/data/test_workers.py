"""The processes of the loader: they start and end quietly, and nobody's death holds up another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from facerec.data.loader import TrainLoader, build_train_loader
from facerec.data.workers import expected_warnings, starting_workers, stay_until_trainer_ends, worker_context
from facerec.errors import DataError
from tests.data.test_loader import children, configure, write_pack


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


def test_a_worker_that_dies_is_an_error_with_advice(pack_folder):
    loader = build_train_loader(configure(pack_folder, num_workers=1))
    before = {child.pid for child in children()}
    iterator = loader.epoch(0)
    next(iterator)
    (worker,) = [child for child in children() if child.pid not in before]
    with pytest.raises(DataError, match=r"a data worker has died .* lower data\.num_workers"):
        _kill_and_drain(loader, worker)
    loader.close()


def _kill_and_drain(loader: TrainLoader, worker: psutil.Process) -> None:
    # torch may report the death from its signal handler, at any instruction; it is the loader's report that counts.
    previous = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        worker.kill()
        worker.wait(5)
        for epoch in range(20):
            for _ in loader.epoch(epoch):
                pass
    finally:
        signal.signal(signal.SIGCHLD, previous)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_worker_killed_while_it_looks_whether_to_end_holds_up_nobody():
    context = worker_context("fork")
    for _ in range(10):
        event, started = context.Event(), context.Event()
        process = context.Process(target=_look_all_the_time, args=(event, started))
        process.start()
        while not started.is_set():
            time.sleep(0.001)
        process.kill()
        process.join()
        setter = threading.Thread(target=event.set, daemon=True)
        setter.start()
        setter.join(10)
        assert not setter.is_alive()
        assert event.is_set()


def _look_all_the_time(event, started):
    started.set()
    while not event.is_set():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell who sent a signal")
def test_the_trainer_can_end_a_worker_that_is_stuck_and_nobody_else_can():
    context = worker_context("fork")
    ready = context.Event()
    with starting_workers():
        process = context.Process(target=_be_stuck, args=(os.getpid(), ready))
        process.start()
    while not ready.is_set():
        time.sleep(0.01)
    subprocess.run(["kill", "-TERM", str(process.pid)], check=True)
    process.join(1)
    assert process.is_alive()
    for _ in range(100):
        os.kill(process.pid, signal.SIGTERM)
        process.join(0.1)
        if process.exitcode is not None:
            break
    assert process.exitcode == 0


def _be_stuck(trainer, ready):
    stay_until_trainer_ends(0, trainer=trainer)
    ready.set()
    time.sleep(60)


def test_only_the_expected_warnings_are_silenced():
    with warnings.catch_warnings(action="error"), expected_warnings():
        text = "This process (pid=7) is multi-threaded, use of fork() may lead to deadlocks in the child."
        warnings.warn(text, DeprecationWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning):
            warnings.warn("something else", DeprecationWarning, stacklevel=1)


SCRIPT = """
    import signal, sys, time
    from facerec.config import config_from_dict
    from facerec.data.loader import build_train_loader

    if __name__ == "__main__":
        # A shell lets what it starts in the background ignore Ctrl-C, and tests may run there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        BEFORE
        data = {"root": sys.argv[1], "batch_size": 4, "num_workers": 2, "img_size": 16}
        loader = build_train_loader(config_from_dict({"data": data}))
        iterator = loader.epoch(0)
        next(iterator)
        print("ready", flush=True)
        BODY
"""


@pytest.fixture
def start(tmp_path, pack_folder) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program that has a loader with two workers and goes on with the given lines, or begins with others."""
    started: list[subprocess.Popen[str]] = []

    def indented(lines: str) -> str:
        return textwrap.indent(textwrap.dedent(lines).strip(), " " * 4).strip()

    def run(body: str, before: str = "pass") -> subprocess.Popen[str]:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(SCRIPT).replace("BEFORE", indented(before)).replace("BODY", indented(body)))
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script), str(pack_folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield run
    for process in started:
        with process:
            process.kill()


def test_a_program_that_never_closes_the_loader_ends_at_once_and_quietly(start):
    process = start("sys.exit(3)")
    workers = psutil.Process(process.pid).children()
    started = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 8
    assert errors == ""
    assert process.returncode == 3
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def test_signals_to_the_whole_group_leave_the_workers_to_the_trainer(start):
    body = """
        import signal
        told = []
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, lambda number, frame: told.append(number))
        print("armed", flush=True)
        while len(told) < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        print(1 + len(list(iterator)), len(list(loader.epoch(1))), flush=True)
        loader.close()
    """
    process = start(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "armed\n"
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert (output, errors, process.returncode) == ("6 6\n", "", 0)


def test_an_interrupt_shows_one_traceback_and_leaves_no_worker(start):
    process = start("time.sleep(30)")
    workers = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGINT)
    # On a busy machine the end of a program takes its time, too.
    _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert psutil.wait_procs(workers, timeout=30)[1] == []


LATE_WORKER = """
    # What a busy machine does: the second worker comes to look at its parent when that has another one already.
    from torch.utils.data import get_worker_info
    from torch.utils.data._utils import worker

    watchdog = worker.ManagerWatchdog
    worker.ManagerWatchdog = lambda: (time.sleep(3 * get_worker_info().id), watchdog())[1]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("before", ["pass", LATE_WORKER], ids=["at_work", "just_starting"])
def test_workers_of_a_killed_trainer_end_by_themselves(start, before):
    process = start("time.sleep(30)", before)
    workers = psutil.Process(process.pid).children()
    process.kill()
    assert len(workers) == 2
    # Each looks every five seconds; on a busy machine that takes longer.
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert "Traceback" not in process.communicate()[1]
