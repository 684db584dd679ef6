"""Every key of a study, with its meaning, its default and its range.

The search space itself is checked in ``tuning.space``, and what spans several keys in ``tuning.checks``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

__all__ = [
    "BudgetConfig",
    "ConfirmConfig",
    "ConstraintsConfig",
    "ObjectiveConfig",
    "PrunerConfig",
    "RecoveryConfig",
    "ReportConfig",
    "SamplerConfig",
    "StudyConfig",
]

Scalar = str | int | float | bool | None
PositiveInt = Annotated[int, Ge(1)]
NaturalInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0.0)]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is to become better."""

    metric: str = "accuracy"
    """A metric of an evaluation, `train/loss`, or `parameters`, `macs`, `latency_ms` of the backbone."""
    direction: Literal["maximize", "minimize"] | None = None
    """Null minimises losses, error rates, sizes and latencies, and maximises everything else."""
    bin_file: str | tuple[str, ...] | None = None
    """Pair set or sets to tune on, over which the metric is averaged; null takes the base configuration's."""
    value: Literal["best", "last"] = "best"
    """Whether a training counts by its best evaluation, whose checkpoint is kept, or by its last."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Where the confirmed numbers come from."""

    bin_file: str | tuple[str, ...] | None = None
    """Pair sets that the search never sees, on which the confirmation reports; null reports on the tuning pairs."""

    @property
    def files(self) -> tuple[str, ...]:
        """The pair sets as a list; none, where the confirmation reports on the tuning pairs."""
        return (self.bin_file,) if isinstance(self.bin_file, str) else self.bin_file or ()


@dataclass(frozen=True, kw_only=True)
class ConstraintsConfig:
    """Upper bounds; a setting past one is refused before it trains."""

    parameters: PositiveFloat | None = None
    """Parameters of the backbone."""
    macs: PositiveFloat | None = None
    """Multiply-accumulate operations of the backbone for one image."""
    latency_ms: PositiveFloat | None = None
    """Median time of the backbone for one image on the study's device, in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """How much is tried, by all workers together and over all restarts."""

    trials: PositiveInt = 30
    """Trials, the baseline included; one that fails for its own reasons counts, one whose worker died does not."""
    hours: PositiveFloat | None = None
    """Time in which at least one trial was running, in hours; no trial starts after it."""
    epochs: PositiveInt | None = None
    """Epochs of all finished trials together; no trial starts after them."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How the next setting is chosen."""

    name: Literal["tpe", "gp", "cmaes", "random", "grid"] = "tpe"
    """Tree-structured Parzen estimator, Gaussian process, CMA-ES, uniform, or every point of a grid."""
    seed: NaturalInt = 0
    """Seed of the choices."""
    startup_trials: PositiveInt | None = None
    """tpe, gp and cmaes only: random trials before the model counts; null takes 10."""


@dataclass(frozen=True, kw_only=True)
class PrunerConfig:
    """When a training that goes badly is given up."""

    name: Literal["hyperband", "halving", "median", "none"] = "hyperband"
    """Hyperband, successive halving, the median of the others, or never."""
    min_epochs: PositiveInt = 1
    """Epochs that every trial is given."""
    reduction_factor: Annotated[int, Ge(2)] | None = None
    """hyperband and halving only: one in so many goes on at each rung; null takes 3."""
    startup_trials: PositiveInt | None = None
    """median only: trials before anything is pruned; null takes 5."""


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig:
    """The best settings trained again with fresh seeds, beside the baseline with the same seeds."""

    top_k: NaturalInt = 3
    """Settings to confirm; 0 confirms none."""
    seeds: Annotated[int, Ge(2)] = 5
    """Trainings of each, and of the baseline."""
    confidence: Annotated[float, Gt(0.5), Lt(1.0)] = 0.95
    """Confidence of the interval that decides whether the gain exceeds its noise."""


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """What happens to the trial of a worker that dies."""

    retries: NaturalInt = 2
    """Times that a trial is taken up again from its last checkpoint after its worker was killed."""
    heartbeat_s: Annotated[float, Ge(0.1), Le(3600.0)] = 30.0
    """Seconds between two signs of life of a running trial."""
    silence_s: PositiveFloat = 600.0
    """Seconds without a sign of life after which a worker on another machine counts as dead."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A whole study."""

    study: str | None = None
    """Name of the study; null takes the file's name."""
    base: str = "configs/demo.yaml"
    """The configuration that is tuned; trial 0 is this baseline."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values by dotted key laid over the base configuration before anything else."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is to become better."""
    objectives: tuple[ObjectiveConfig, ...] = ()
    """Two or more objectives in place of one; the result is the set of best compromises."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """Where the confirmed numbers come from."""
    constraints: ConstraintsConfig = field(default_factory=ConstraintsConfig)
    """Bounds on size and speed."""
    space: dict[str, Any] = field(default_factory=dict)
    """What is varied, by dotted configuration key."""
    seeds: tuple[dict[str, Any], ...] = ()
    """Settings to try right after the baseline, by dotted key; other keys are as in the baseline."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How much is tried."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How the next setting is chosen."""
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    """When a training is given up."""
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    """The best settings again."""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """What happens to the trial of a worker that dies."""
    storage: str | None = None
    """Null keeps a journal in the study's folder; else `sqlite:///FILE`, `postgresql://…`, or a journal's path."""
    folder: str = "tuning"
    """The study's own folder lies in this one: journal, trials, pictures, tables."""
    nproc: PositiveInt = 1
    """Processes of one trial; more than one starts it through torch.distributed.run."""
    export: str | None = None
    """Also write the tuned configuration to this file; null leaves it in the study's folder alone."""

    @property
    def all_objectives(self) -> tuple[ObjectiveConfig, ...]:
        """The objectives, one or several."""
        return self.objectives or (self.objective,)

    @property
    def is_multi_objective(self) -> bool:
        """Whether there are several objectives."""
        return len(self.all_objectives) > 1
