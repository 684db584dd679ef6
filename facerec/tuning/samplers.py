"""Samplers and pruners by name."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from facerec.rng import counter_generator
from facerec.tuning.schema import PrunerConfig, SamplerConfig
from facerec.tuning.space import Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["build_pruner", "build_sampler"]

_STARTUP_TRIALS = 10


def build_sampler(settings: SamplerConfig, *, space: Space, number: int) -> BaseSampler:
    """The sampler for the trial of that number; its draws follow from the number and the seed."""
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    seed = int(counter_generator(settings.seed, number).integers(2**31))
    startup = settings.startup_trials or _STARTUP_TRIALS
    if settings.name in ("random", "grid"):
        # The points of a grid are given to its slots.
        return samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if settings.name == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if settings.name == "cmaes":
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        is_conditional = any(dimension.when for dimension in space.dimensions)
        grouped: dict[str, Any] = {"multivariate": True, "group": True} if is_conditional else {}
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True, **grouped)


def build_pruner(settings: PrunerConfig, *, epochs: int) -> BasePruner:
    """The pruner of a study whose trainings have so many epochs."""
    from optuna import pruners

    factor = settings.reduction_factor or 3
    first = min(settings.min_epochs, epochs)
    if settings.name == "hyperband":
        return pruners.HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=factor)
    if settings.name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    if settings.name == "median":
        startup = settings.startup_trials or 5
        return pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=first)
    return pruners.NopPruner()
