"""Make the stored corpus of a target: the smallest inputs that reach as many steps from line to line as all do.

``python -m tests.fuzz.shrink TARGET`` takes what `tests.fuzz.run` has learnt under ``--work`` and writes what covers
the same to ``tests/fuzz/corpus/TARGET``. Findings that were put there by hand stay.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.run import CORPUS
from tests.fuzz.seeds import seeds_of
from tests.fuzz.targets import TARGETS

__all__ = ["cover", "steps_of"]

_TRACED = ("facerec", "PIL")

Step = tuple[str, int, int]
"""File, and the numbers of one line and of the next."""


def main() -> None:
    """Write the corpus of one target."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.shrink", description=__doc__)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--work", type=Path, default=Path(".fuzz"))
    options = parser.parse_args()
    logging.disable()
    target, stored = TARGETS[options.target], CORPUS / options.target
    stored.mkdir(parents=True, exist_ok=True)
    known = [*seeds_of(options.target), *(path.read_bytes() for path in sorted(stored.iterdir()))]
    learnt = [path.read_bytes() for path in (options.work / options.target).iterdir()]
    reached: set[Step] = set()
    cover(target, known, reached)
    for data in cover(target, sorted(learnt, key=len), reached):
        (stored / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{len(reached)} steps, {sum(path.stat().st_size for path in stored.iterdir())} bytes in {stored}")


def cover(target: Callable[[bytes], None], inputs: Iterable[bytes], reached: set[Step]) -> list[bytes]:
    """The inputs that reach steps which none before them has; ``reached`` grows by those."""
    chosen = []
    for data in inputs:
        steps = steps_of(target, data)
        if steps - reached:
            chosen.append(data)
            reached |= steps
    return chosen


def steps_of(target: Callable[[bytes], None], data: bytes) -> set[Step]:
    """The steps that an input takes through the code that is fuzzed."""
    steps: set[Step] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _TRACED:
            return None
        steps.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
        last[frame] = frame.f_lineno
        if event == "return":
            del last[frame]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(before)
    return steps


if __name__ == "__main__":
    main()
