"""Run every benchmark that this machine can run, one after another, and write the table of results.

    python benchmarks/run_all.py [--peer ARCFACE_TORCH] [--data FOLDER] [--mxnet-python PYTHON] [--only "NAME NAME"]
        [--quick] [--results docs/results.md] [--list]

ARCFACE_TORCH is the folder ``recognition/arcface_torch`` of a checkout of deepinsight/insightface, FOLDER a pack of
faces with a pair set, PYTHON an interpreter with mxnet 1.9.1; what is not given is left out and said so. ``--only``
runs some and leaves the lines of the others as they are: names as ``--list`` prints them, ``serve`` stands for all that
begin with it. The claims go to ``results.json`` beside the page after each benchmark, so that an interrupted run keeps
what it has. ``--quick`` is a smoke test with small work: it prints its table and writes nothing, for its figures mean
nothing.

Exit code 1 if a benchmark failed. A missed target is no failure: it stands in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from claims import Claim, claim_from_dict
from jobs import JOBS, Job
from machine import describe_machine, has_cuda, others_share
from results_page import Measured, from_dict, to_dict, write_page

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run and write; returns the exit code."""
    arguments = parse()
    # As an exception, so that the benchmark that runs is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = choose(JOBS, arguments.only)
    if arguments.list:
        print("\n".join(f"{job.name:<16} {job.title}" for job in chosen))
        return 0
    given = {"PEER": arguments.peer, "DATA": arguments.data, "MXNET_PYTHON": arguments.mxnet_python}
    given = {name: str(path.absolute()) for name, path in given.items() if path is not None}
    store = arguments.results.with_suffix(".json")
    results = {} if arguments.quick else load(store)
    for job in chosen:
        results = in_order({**results, job.name: measure(job, given=given, is_quick=arguments.quick)})
        if not arguments.quick:
            save(store, results)
            write_page(arguments.results, results)
    if arguments.quick:
        print(write_page(None, results))
    return report({job.name: results[job.name] for job in chosen})


def parse() -> argparse.Namespace:
    """The arguments; a path that is not there is refused before anything runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mxnet-python", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results.md")
    arguments = parser.parse_args()
    wanted = {
        "--peer": (arguments.peer, "partial_fc_v2.py"),
        "--data": (arguments.data, "train.rec"),
        "--mxnet-python": (arguments.mxnet_python, ""),
    }
    for option, (path, part) in wanted.items():
        if path is not None and not (path / part if part else path).exists():
            parser.error(f"{option}: {path} {f'holds no {part}' if part else 'is not there'}")
    if unknown := [word for word in arguments.only.split() if not choose(JOBS, word)]:
        parser.error(f"--only: no benchmark is called {unknown[0]}; --list prints the names")
    return arguments


def choose(jobs: Sequence[Job], only: str) -> list[Job]:
    """The jobs of these names, or of groups of them; all without a name."""
    words = only.split()
    return [job for job in jobs if not words or any(job.is_called(word) for word in words)]


def measure(job: Job, *, given: Mapping[str, str], is_quick: bool) -> Measured:
    """Run one benchmark; its failure or the want of a GPU becomes a line of the table."""
    began = datetime.datetime.now(datetime.UTC).date().isoformat()
    empty = Measured(
        title=job.title, command=job.shown_command(given), date=began, seconds=0.0, machine=describe_machine()
    )
    if job.device == "cuda" and not has_cuda():
        return dataclasses.replace(empty, absent="no GPU here")
    busy = others_share()
    say(f"{job.name}: begins; others use {100 * busy:.0f} % of the processor")
    start = time.monotonic()
    command = [sys.executable, *job.command(given, is_quick=is_quick), "--json"]
    claims, failure = run(command, limit_s=job.limit_s)
    spent = time.monotonic() - start
    say(f"{job.name}: {failure or f'{len(claims)} claims'}, {spent:.0f} s")
    return dataclasses.replace(
        empty, claims=claims, failure=failure, seconds=round(spent, 1), others_share=round(busy, 2)
    )


def run(command: Sequence[str], *, limit_s: float) -> tuple[list[Claim], str]:
    """The claims that a benchmark prints, or one sentence on why there are none."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            output, messages = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            kill(process.pid)
            return [], f"stopped after its limit of {limit_s:.0f} s"
        except BaseException:
            kill(process.pid)
            raise
    if process.returncode != 0:
        sys.stderr.write(messages)
        last = messages.strip().splitlines()[-1:] or ["it said nothing"]
        return [], f"failed with exit code {process.returncode}: {last[0][:200]}"
    try:
        found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        return [claim_from_dict(claim) for claim in found["claims"]], ""
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return [], f"its output is not an object of claims: {error}"


def kill(pid: int) -> None:
    """End a process and all below it, those that lead a session of their own too."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes[1:], timeout=10)


def load(store: Path) -> dict[str, Measured]:
    """What earlier runs have measured, of the benchmarks that still exist."""
    if not store.exists():
        return {}
    found = json.loads(store.read_text(encoding="utf-8"))["benchmarks"]
    return {job.name: from_dict(found[job.name]) for job in JOBS if job.name in found}


def save(store: Path, results: Mapping[str, Measured]) -> None:
    """Keep everything."""
    plain = {name: to_dict(measured) for name, measured in results.items()}
    store.write_text(json.dumps({"benchmarks": plain}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def in_order(results: Mapping[str, Measured]) -> dict[str, Measured]:
    """The results in the order of the page."""
    return {job.name: results[job.name] for job in JOBS if job.name in results}


def report(results: Mapping[str, Measured]) -> int:
    """Say what failed and what was missed; returns the exit code."""
    failed = [name for name, measured in results.items() if measured.failure]
    missed = [
        f"{name}: {claim.name}" for name, found in results.items() for claim in found.claims if claim.holds is False
    ]
    for text in missed:
        say(f"target missed: {text}")
    for name in failed:
        say(f"FAILED: {name}: {results[name].failure}")
    return 1 if failed else 0


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
