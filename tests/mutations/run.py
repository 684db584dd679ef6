"""Put every mutation into a copy of the project and see the named tests fail: ``make mutants``.

The checkout itself is never changed. Beside the mutations the named tests run on an untouched copy, where all of them
have to pass: a test that fails anyway, or is skipped, would catch nothing. Exit code 1 where one does not, where a
mutation survives, or where it no longer fits its source.

This process loads the libraries once and forks for every mutation; of the project itself it loads only the list.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import REPOSITORY, Mutation, apply_mutation

__all__ = ["main"]

_COPIED = ("facerec", "tests", "configs", "studies", "benchmarks", "docs", "pyproject.toml", "conda.yaml", "MLproject")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache", "pictures")
_LIBRARIES = ("torch", "torchvision", "mlflow.pyfunc", "optuna", "sklearn.metrics", "scipy.stats", "pandas", "pytest")
_NOTHING_RAN = 5


@dataclass(frozen=True, kw_only=True)
class Run:
    """Tests on one copy, in a process of its own."""

    mutation: Mutation | None
    """None for the untouched copy."""
    root: Path
    before: str
    """What the changed file held."""
    started_s: float

    def verdict(self, status: int) -> tuple[str, str]:
        """caught, survived or passed, else what went wrong; and the first test that failed."""
        code, failed = _outcome(self.root, os.waitstatus_to_exitcode(status))
        output = (self.root / "output.txt").read_text(errors="replace")
        if self.mutation is None:
            return ("passed", "") if code == 0 else (f"{failed or 'pytest'} fails without a fault\n{output}", failed)
        if code == 0:
            return "survived", ""
        return ("caught", failed) if code == 1 else (f"pytest ends with {code}: {output[-1000:]}", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutations; the exit code."""
    options = _parse(arguments)
    chosen = [one for one in MUTATIONS if not options.only or any(word in one.name for word in options.only)]
    if not chosen:
        print("no mutation has such a name", file=sys.stderr)
        return 2
    _prepare_process()
    with tempfile.TemporaryDirectory(prefix="facerec-mutants-") as folder:
        roots = [_copy(Path(folder) / str(number)) for number in range(options.jobs)]
        verdicts = _work_off(deque([None, *chosen]), roots, control=sorted({t for one in chosen for t in one.tests}))
    caught = verdicts.count("caught")
    print(f"{caught} of {len(chosen)} mutations are caught")
    return 0 if caught == len(chosen) and "passed" in verdicts else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.run", description=__doc__)
    parser.add_argument("only", nargs="*", help="words of the names to run; all without any")
    parser.add_argument("--jobs", type=int, default=2, help="mutations at a time")
    return parser.parse_args(arguments)


def _prepare_process() -> None:
    """What every fork starts from: the libraries, and no way to the checkout's own modules."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    sys.dont_write_bytecode = True
    for name in _LIBRARIES:
        __import__(name)
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != REPOSITORY]


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


def _work_off(waiting: deque[Mutation | None], free: list[Path], *, control: Sequence[str]) -> list[str]:
    """Run everything that waits, as many at a time as there are copies; the verdicts."""
    verdicts: list[str] = []
    running: dict[int, Run] = {}
    while waiting or running:
        while waiting and free:
            mutation, root = waiting.popleft(), free.pop()
            try:
                before = "" if mutation is None else apply_mutation(mutation, root=root)
            except ValueError as error:
                free.append(root)
                verdicts.append(_told(str(error), mutation, "", 0.0))
                continue
            pid = _fork(root, control if mutation is None else mutation.tests, stops=mutation is not None)
            running[pid] = Run(mutation=mutation, root=root, before=before, started_s=time.monotonic())
        if not running:
            break
        pid, status = os.wait()
        run = running.pop(pid)
        verdict, failed = run.verdict(status)
        if run.mutation is not None:
            (run.root / run.mutation.source).write_text(run.before, encoding="utf-8")
        free.append(run.root)
        verdicts.append(_told(verdict, run.mutation, failed, time.monotonic() - run.started_s))
    return verdicts


def _fork(root: Path, tests: Sequence[str], *, stops: bool) -> int:
    """Run tests of a copy in a new process; its number."""
    (root / "report.xml").unlink(missing_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _test_copy(root, tests, stops=stops)
    except Exception:
        traceback.print_exc()
    finally:
        # Whatever happens, the child never goes on with the work of its parent.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _test_copy(root: Path, tests: Sequence[str], *, stops: bool) -> int:
    import pytest

    output = os.open(root / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(root)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("facerec", "tests")]:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={root.parent / 'tmp'}"]
    options += ["--junit-xml=report.xml", *(["-x"] if stops else [])]
    # Of a library that is loaded already and also a plugin.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *(f"tests/{test}" for test in tests)]))


def _outcome(root: Path, code: int) -> tuple[int, str]:
    """The exit code, that of nothing run where every test was skipped, and the first test that failed."""
    if not (root / "report.xml").exists():
        return code, ""
    cases = list(ElementTree.parse(root / "report.xml").iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    ran = [case for case in cases if case.find("skipped") is None]
    return (code if ran or code else _NOTHING_RAN), (failed[0].attrib["name"] if failed else "")


def _told(verdict: str, mutation: Mutation | None, failed: str, seconds: float) -> str:
    where = "--  no fault" if mutation is None else f"{mutation.promise:2}  {mutation.name} ({mutation.source})"
    print(f"{verdict:8}  {seconds:5.1f} s  {where}: {failed}".rstrip(": "), flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
