"""The first signal is a request, the second Ctrl-C an order."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from facerec.training.interrupt import Interrupt, TrainingInterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered(number: signal.Signals) -> None:
    with Interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
        assert interrupt.signal_number == number


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_sigint_stops_at_once(first: signal.Signals) -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal_number == first


def test_a_second_sigterm_changes_nothing() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal_number == signal.SIGTERM


def test_the_handlers_are_put_back_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def fail() -> None:
        with Interrupt():
            assert signal.getsignal(signal.SIGINT) != before[1]
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_signal_that_came_before_the_work_inside_began_stops_it_too() -> None:
    with Interrupt() as outer:
        signal.raise_signal(signal.SIGTERM)
        with Interrupt() as inner:
            assert inner.signal_number == signal.SIGTERM
    assert outer.requested


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.extend([signal.getsignal(signal.SIGINT), interrupt.requested])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, False]


def test_the_exit_code_tells_the_signal() -> None:
    assert TrainingInterrupted("x", signal_number=signal.SIGTERM).exit_code == 143
    assert TrainingInterrupted("x", signal_number=signal.SIGINT).exit_code == 130
