"""Everything that a running training holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from facerec.config.monitor import natural_mode
from facerec.config.schema import Config
from facerec.data.device_copy import Batch
from facerec.data.loader import TrainLoader
from facerec.data.pairs import PairSet
from facerec.evaluation.result import PairResult
from facerec.models.classification import LossOutput
from facerec.training.assembly import Parts
from facerec.training.distributed import World
from facerec.training.history import Evaluation, Judgement, judge
from facerec.training.means import RunningMeans
from facerec.training.optim import learning_rate, rate_scale
from facerec.training.step import TrainStep
from facerec.training.stopwatch import Rates
from facerec.training.symptoms import Symptoms
from facerec.training.tracker import Tracker

__all__ = ["Session"]


@dataclass(kw_only=True)
class Session:
    """A training between its first and its last step."""

    config: Config
    world: World
    parts: Parts
    loader: TrainLoader
    pair_sets: list[PairSet]
    monitor: str
    """Metric key that decides which checkpoint is best."""
    epoch_means: RunningMeans
    symptoms: Symptoms
    tracker: Tracker
    run_folder: Path
    resumed_from: Path | None = None
    resume_run_id: str | None = None
    notes: list[str] = field(default_factory=list)
    """What a user should hear of how this training differs from the one that it goes on with."""
    epoch: int = 0
    """Epochs completed."""
    step_in_epoch: int = 0
    global_step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    best_results: tuple[PairResult, ...] = ()
    """Of the best evaluation, on rank 0; none, where a process before this one has made it."""
    recent_keys: deque[tuple[int, list[int]]] = field(default_factory=lambda: deque(maxlen=64))
    """Record keys of the newest batches of this process, to name the one that broke the loss."""
    earlier_skips: set[int] = field(default_factory=set)
    """Keys of the damaged records that the run had left out when this process began."""
    rates: list[Rates] = field(default_factory=list)
    """Speed of every window of steps that has been told."""
    on_evaluation: Callable[[Evaluation], None] | None = None
    """Told of every new evaluation; it may raise `TrainingStopped`."""

    @property
    def step(self) -> TrainStep:
        """What updates the weights."""
        return self.parts.step

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.parts.device

    @property
    def total_batch(self) -> int:
        """Pictures of an update, those of all processes."""
        return self.config.data.batch_size * self.world.size

    @property
    def log_folder(self) -> Path:
        """Folder of the log file and of TensorBoard's events."""
        return Path(self.config.logging.log_dir) / self.run_folder.name

    @property
    def learning_rate(self) -> float:
        """The rate of the next update.

        It follows from the place in the epochs, not from the number of updates, which an epoch has fewer of where
        more processes go on with a run.
        """
        steps = self.loader.steps_per_epoch
        place = self.epoch * steps + self.step_in_epoch
        rate = learning_rate(self.config.training, step=place, steps_per_epoch=steps)
        return rate * rate_scale(self.config.training, total_batch=self.total_batch)

    @property
    def epoch_is_unrecorded(self) -> bool:
        """Whether an epoch is complete and its evaluation is not yet in the history."""
        at_boundary = self.step_in_epoch == 0 and self.epoch > 0
        return at_boundary and all(evaluation.epoch != self.epoch for evaluation in self.evaluations)

    @property
    def judgement(self) -> Judgement:
        """The best evaluation so far, and how long ago it was."""
        training = self.config.training
        # By the metric that is watched: without pair sets the loss stands in for the one that ``mode`` was meant for.
        mode = natural_mode(self.monitor) or training.mode or "max"
        return judge(self.evaluations, key=self.monitor, mode=mode, min_delta=training.min_delta)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or an early stop is due."""
        training = self.config.training
        stop = training.early_stop and self.judgement.without_improvement >= training.patience
        return self.epoch >= training.epochs or stop

    def begin_epoch(self) -> None:
        """Put the model into the mode of the epoch that comes: training, with the backbone frozen or not."""
        frozen = self.epoch < self.config.training.freeze_backbone_epochs
        self.parts.model.train()
        self.parts.model.backbone.train(not frozen)
        self.step.is_frozen = frozen
        self.symptoms.begin_epoch(step_in_epoch=self.step_in_epoch)

    def skipped_keys(self) -> list[int]:
        """Keys of all damaged records that the run has left out so far, each once; every process must ask."""
        if self.config.data.on_bad_record == "fail":
            return sorted(self.earlier_skips)
        own = np.array(sorted(self.loader.skipped_keys), dtype=np.int64)
        return sorted(self.earlier_skips.union(*(keys.tolist() for keys in self.world.gather_rows(own))))

    def observe(self, batch: Batch, output: LossOutput) -> None:
        """Add what an update gave to the sums of the epoch; waits for nothing."""
        self.recent_keys.append((self.global_step, batch.keys_B.tolist()))
        self.epoch_means.add(output)
        self.symptoms.add(output, batch.labels_B)

    def advance(self) -> None:
        """One update is done."""
        self.global_step += 1
        self.step_in_epoch += 1
        if self.step_in_epoch == self.loader.steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
