"""Put every mutation into a copy of the project and see the named tests fail: ``make mutants``.

The checkout itself is never changed. Beside the mutations the named tests run on an untouched copy, where all of them
have to pass: a test that fails anyway, or is skipped, would catch nothing. Exit code 1 where one does not, where a
mutation survives, or where it no longer fits its source.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import REPOSITORY, Mutation, apply_mutation

__all__ = ["main"]

_LONGEST_RUN_S = 600
_COPIED = ("facerec", "tests", "configs", "studies", "benchmarks", "docs", "pyproject.toml", "conda.yaml", "MLproject")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache", "pictures")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a mutation."""

    mutation: Mutation
    verdict: str
    """caught, survived, or what went wrong."""
    test: str = ""
    """The first test that failed."""
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutations; the exit code."""
    options = _parse(arguments)
    chosen = [one for one in MUTATIONS if not options.only or any(word in one.name for word in options.only)]
    if not chosen:
        print("no mutation has such a name", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="facerec-mutants-") as folder:
        roots: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            roots.put(_copy(Path(folder) / str(number)))
        with ThreadPoolExecutor(options.jobs) as threads:
            control = threads.submit(_control, roots, chosen)
            results = list(threads.map(lambda one: _told(_try(one, roots)), chosen))
    caught = sum(result.verdict == "caught" for result in results)
    print(f"{caught} of {len(results)} mutations are caught")
    if problem := control.result():
        print(problem, file=sys.stderr)
    return 0 if caught == len(results) and not problem else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.run", description=__doc__)
    parser.add_argument("only", nargs="*", help="words of the names to run; all without any")
    parser.add_argument("--jobs", type=int, default=2, help="mutations at a time")
    return parser.parse_args(arguments)


def _copy(folder: Path) -> Path:
    """A copy of the project; what lies beside the checkout is linked beside the copy."""
    root = folder / "project"
    root.mkdir(parents=True)
    for name in _COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=_LEFT_OUT)
        else:
            shutil.copy(source, root / name)
    for readme in REPOSITORY.glob("README*.md"):
        shutil.copy(readme, root)
    if (REPOSITORY.parent / "shared").is_dir():
        (folder / "shared").symlink_to(REPOSITORY.parent / "shared")
    return root


def _control(roots: SimpleQueue[Path], mutations: Sequence[Mutation]) -> str:
    """Why the named tests say nothing; empty where all of them pass on an untouched copy."""
    root = roots.get()
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    code, failed, output = _pytest(root, tests, stops=False)
    roots.put(root)
    if code != 0:
        return f"without any mutation {failed or 'pytest'} fails\n{output[-5000:]}"
    return ""


def _try(mutation: Mutation, roots: SimpleQueue[Path]) -> Result:
    root = roots.get()
    started = time.monotonic()
    try:
        content = apply_mutation(mutation, root=root)
    except ValueError as error:
        roots.put(root)
        return Result(mutation=mutation, verdict=str(error))
    try:
        code, failed, output = _pytest(root, mutation.tests, stops=True)
    finally:
        (root / mutation.source).write_text(content, encoding="utf-8")
        roots.put(root)
    seconds = time.monotonic() - started
    if code == 0:
        return Result(mutation=mutation, verdict="survived", seconds=seconds)
    if code != 1:
        return Result(mutation=mutation, verdict=f"pytest ends with {code}: {output[-1000:]}", seconds=seconds)
    return Result(mutation=mutation, verdict="caught", test=failed, seconds=seconds)


def _pytest(root: Path, tests: Sequence[str], *, stops: bool) -> tuple[int, str, str]:
    """Exit code, the first test that failed, and the output; a run that hangs is killed and counts as failed.

    Where every test is skipped, the exit code is 5: nothing was tested.
    """
    report = root / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short"]
    command += [f"--basetemp={root.parent / 'tmp'}", f"--junit-xml={report}", *(["-x"] if stops else [])]
    command += [f"tests/{test}" for test in tests]
    # The copy comes before the installed package; bytecode of a changed file could outlive the change.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=_LONGEST_RUN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "(hung)", ""
    if not report.exists():
        return run.returncode, "", run.stdout + run.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    ran = [case for case in cases if case.find("skipped") is None]
    code = run.returncode if ran or run.returncode else 5
    return code, failed[0].attrib["name"] if failed else "", run.stdout + run.stderr


def _told(result: Result) -> Result:
    mutation = result.mutation
    where = f"{mutation.promise:2}  {mutation.name} ({mutation.source})"
    print(f"{result.verdict:8}  {result.seconds:5.1f} s  {where}: {result.test}".rstrip(": "), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
