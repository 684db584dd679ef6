"""A worker whose trials are arithmetic: ``python -m tests.tuning.synthetic STUDY SECONDS [STORAGE]``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from facerec.errors import TrainingError
from facerec.tracking.study import StudyRun
from facerec.tuning.plan import StudyPlan, load_study
from facerec.tuning.run import join_study
from facerec.tuning.study import Opened, open_study
from facerec.tuning.worker import Job, Outcome

__all__ = ["Sum", "make_study", "open_synthetic", "start_worker"]

REPOSITORY = Path(__file__).resolve().parents[2]


class Sum:
    """Trials of three steps whose best setting is margin 0.3 and lr 0.1; some fail in given ways."""

    def __init__(self, seconds: float, *, fails: bool = False) -> None:
        self._seconds = seconds
        self._fails = fails

    def __call__(self, job: Job) -> Outcome:
        margin, lr = job.values["head.margin"], job.values["training.lr"]
        if self._fails and job.number % 5 == 3:
            raise TrainingError("the loss is not finite at step 7")
        if self._fails and job.number % 5 == 4:
            return Outcome(values=(float("nan"),))
        value = 1.0 - (margin - 0.3) ** 2 - (lr - 0.1) ** 2
        for epoch in range(1, 4):
            time.sleep(self._seconds / 3)
            job.report(epoch, value * epoch / 3)
        noise = 0.001 * (hash((job.attrs.get("facerec.seed", 0), round(margin, 9))) % 7)
        return Outcome(values=(value + noise,), attrs={"facerec.epochs": 3})


def make_study(folder: Path, **changes: object) -> Path:
    """A study file whose trials need no data."""
    study = {
        "study": "synthetic",
        "base": str(REPOSITORY / "configs" / "demo.yaml"),
        "set": {"logging.mlflow": False, "training.epochs": 3},
        "space": {"head.margin": {"float": [0.0, 0.6]}, "training.lr": {"float": [0.01, 0.5], "log": True}},
        "budget": {"trials": 12},
        "pruner": {"name": "none"},
        "confirm": {"top_k": 1, "seeds": 2},
        "recovery": {"heartbeat_s": 0.5, "silence_s": 5.0},
        "folder": str(folder / "tuning"),
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def open_synthetic(path: Path, *, storage: str | None = None) -> Opened:
    """The study in its storage."""
    return open_study(load_study(path, storage=storage), data_digests={})


def start_worker(path: Path, *, seconds: float = 0.0, storage: str = "", fails: bool = False) -> subprocess.Popen[str]:
    """Start a worker process in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tuning.synthetic", str(path), str(seconds), storage, "fails" if fails else ""],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _main(path: str, seconds: str, storage: str, fails: str) -> None:
    plan: StudyPlan = load_study(path, storage=storage or None)
    join_study(plan, tracker=StudyRun(plan.base), tell=print, runner=Sum(float(seconds), fails=bool(fails)))


if __name__ == "__main__":
    from facerec.errors import FacerecError

    try:
        _main(*sys.argv[1:])
    except FacerecError as error:
        print(f"error: {error}")
        sys.exit(error.exit_code)
