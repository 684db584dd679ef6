"""The benchmarks of ``make bench``: what each is called, how it is run, and how long it may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["JOBS", "Job"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a script."""

    name: str
    title: str
    script: str
    """Below ``benchmarks/``, with a subcommand where it has one."""
    full: str = ""
    """Options of a measurement."""
    quick: str = ""
    """Options of the smoke test."""
    where_given: tuple[str, ...] = ()
    """Groups of options, each left out unless every name in capitals in it is given."""
    limit_s: float = 300.0
    device: str = "cpu"

    def is_called(self, word: str) -> bool:
        """Whether ``word`` is the name, or the first part of it."""
        return self.name == word or self.name.startswith(f"{word}-")

    def command(self, given: Mapping[str, str], *, is_quick: bool) -> list[str]:
        """The arguments of the interpreter."""
        return [given.get(word, word) for word in self._words(given, self.quick if is_quick else self.full)]

    def shown_command(self, given: Mapping[str, str]) -> str:
        """The command for people, with the names of what was given in place of paths."""
        return " ".join(["python", *self._words(given, self.full)])

    def _words(self, given: Mapping[str, str], options: str) -> list[str]:
        words = f"benchmarks/{self.script} {options}".split()
        for group in self.where_given:
            parts = group.split()
            if all(part in given for part in parts if part.isupper()):
                words += parts
        return words


_PEER = ("--peer PEER",)

JOBS = (
    Job(
        name="reader",
        title="Reading records",
        script="reader.py",
        quick="--records 20000 --rounds 1 --openings 1",
        where_given=("--data DATA", "--mxnet-python MXNET_PYTHON"),
    ),
    Job(
        name="loader",
        title="Loading training batches",
        script="loader.py",
        full="--images 5120 --rounds 7",
        quick="--images 256 --rounds 1",
        where_given=("--data DATA", "--peer-arcface PEER --mxnet-python MXNET_PYTHON"),
    ),
    Job(
        name="head",
        title="The head, 100,000 classes",
        script="head.py --device cpu",
        full="--repeats 3",
        quick="--classes 2000 --batch 32 --repeats 1",
        where_given=_PEER,
    ),
    Job(
        name="head-cuda",
        title="The head, 1,000,000 classes, on a GPU",
        script="head.py --device cuda",
        quick="--classes 2000 --batch 32 --repeats 1",
        where_given=_PEER,
        device="cuda",
    ),
    Job(
        name="train_step",
        title="A whole training step",
        script="train_step.py --device cpu",
        full="--batch 32",
        quick="--batch 2 --classes 100 --rounds 1",
        where_given=_PEER,
    ),
    Job(
        name="train_step-cuda",
        title="A whole training step on a GPU",
        script="train_step.py --device cuda",
        quick="--batch 8 --classes 1000 --rounds 1",
        where_given=_PEER,
        device="cuda",
        limit_s=600.0,
    ),
    Job(
        name="verify",
        title="Verification",
        script="verify.py",
        full="--pairs 150",
        quick="--pairs 4 --rounds 1 --scores 100000",
        where_given=_PEER,
    ),
    Job(
        name="backbones",
        title="Light backbones",
        script="backbones.py --latency",
        quick="--rounds 1",
        limit_s=120.0,
    ),
    Job(
        name="serve",
        title="Serving with torch",
        script="serve.py --runtime torch",
        full="--requests 40",
        quick="--backbone iresnet_mini --seconds 1 --requests 4 --rounds 1",
        limit_s=480.0,
    ),
    Job(
        name="serve-onnx",
        title="Serving with onnxruntime",
        script="serve.py --runtime onnx",
        full="--requests 40",
        quick="--backbone iresnet_mini --seconds 1 --requests 4 --rounds 1",
        limit_s=480.0,
    ),
    Job(
        name="tune-regret",
        title="Search against random search",
        script="tune.py regret",
        quick="--seeds 2 --trials 4",
    ),
    Job(
        name="tune-overhead",
        title="Around the training of a trial",
        script="tune.py overhead",
        full="--trials 3",
        quick="--trials 1",
    ),
    Job(name="tune-eight", title="Eight workers on one study", script="tune.py eight", quick="--trials 8"),
    Job(
        name="tune-workers",
        title="Two workers on one study",
        script="tune.py workers",
        full="--seconds 60",
        quick="--seconds 2",
    ),
    Job(
        name="tune-pruning",
        title="Pruning",
        script="tune.py pruning",
        quick="--trials 2 --rounds 1",
        limit_s=2400.0,
    ),
)
"""In the order of the page."""
