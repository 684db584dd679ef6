"""What a training would do and take, found out with a few steps."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from facerec.config.schema import Config
from facerec.data.loader import TrainLoader, build_train_loader
from facerec.data.pairs import PairSet
from facerec.evaluation.embed import embed_pixels
from facerec.evaluation.suites import find_pair_sets
from facerec.models.device import describe_device, resolve_device
from facerec.training.assembly import Parts, assemble
from facerec.training.distributed import World
from facerec.training.failures import explained_failures
from facerec.training.head_parts import num_centres
from facerec.training.memory import head_advice, peak_memory
from facerec.training.opening import choose_monitor
from facerec.training.optim import set_learning_rate

__all__ = ["describe_duration", "describe_plan"]

_TIMED_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class _Costs:
    first_step_s: float
    step_s: float
    image_s: float
    """Of an evaluation."""
    peak_bytes: int


def describe_plan(config: Config) -> str:
    """Open the data, build the model, do a few updates and a part of an evaluation, and say what a training takes.

    Nothing is written and the weights are thrown away.

    Raises:
        FacerecError: whatever would stop the training in its first steps.
    """
    pair_sets = find_pair_sets(config)
    monitor = choose_monitor(config, pair_sets)
    device = resolve_device(config.device)
    with build_train_loader(config, device=device) as loader:
        parts = assemble(config, num_classes=loader.num_classes, device=device, world=World())
        with explained_failures(config, parts):
            costs = _measure(config, parts, loader, has_pairs=bool(pair_sets))
        lines = [
            f"data      {loader.num_images} images of {loader.num_classes} identities from "
            f"{', '.join(config.data_roots)}",
            *_model_lines(config, parts, loader),
            *(f"verify    {pairs.name}: {pairs.num_pairs} pairs, {pairs.num_genuine} genuine" for pairs in pair_sets),
            f"best      the checkpoint that is best by {monitor}",
            *_cost_lines(config, parts, loader, pair_sets, costs),
        ]
    return "\n".join(lines)


def _model_lines(config: Config, parts: Parts, loader: TrainLoader) -> list[str]:
    height, width = config.image_hw
    steps = loader.steps_per_epoch
    sizes = {
        part: sum(weight.numel() for weight in module.parameters()) for part, module in parts.model.named_children()
    }
    return [
        f"batch     ({config.data.batch_size}, 3, {height}, {width}), {steps} steps per epoch, "
        f"{config.training.epochs} epochs, {steps * config.training.epochs} updates",
        f"backbone  {config.model.backbone}: {_count(sizes['backbone'])} parameters",
        f"head      {config.head.type}: {_count(sizes['head'])} parameters",
        f"device    {parts.device} ({describe_device(parts.device)}), {parts.precision}",
    ]


def _count(number: int) -> str:
    """A number of parameters in millions, or in thousands where those would be a fraction."""
    return f"{number / 1e6:.2f} M" if number >= 1_000_000 else f"{number / 1e3:.1f} k"


def _cost_lines(
    config: Config, parts: Parts, loader: TrainLoader, pair_sets: list[PairSet], costs: _Costs
) -> list[str]:
    epochs, evaluation = config.training.epochs, config.eval
    training_s = costs.step_s * loader.steps_per_epoch * epochs
    evaluations = -(-epochs // evaluation.eval_freq) + evaluation.before_training if pair_sets else 0
    images = sum(len(set(pairs.images)) for pairs in pair_sets)
    verifying_s = evaluations * images * costs.image_s
    kind = "of the device" if parts.device.type == "cuda" else "of the process"
    return [
        f"memory    {costs.peak_bytes / 2**20:.0f} MiB {kind} at most",
        *(f"          less with {way}" for way in head_advice(config, num_centres=num_centres(parts.loss))),
        f"step      {1000 * costs.step_s:.1f} ms, {config.data.batch_size / costs.step_s:.0f} images/s, "
        f"with the data at hand; the first took {costs.first_step_s:.2f} s",
        f"time      {describe_duration(training_s + verifying_s)}: {describe_duration(training_s)} of training and "
        f"{describe_duration(verifying_s)} for {evaluations} evaluations of {images} images, if the loader keeps up",
    ]


def _measure(config: Config, parts: Parts, loader: TrainLoader, *, has_pairs: bool) -> _Costs:
    batch = next(loader.epoch(0))
    parts.model.train()
    # So small that a rate meant for after the warm-up breaks nothing here.
    set_learning_rate(parts.step.optimizer, 1e-6)
    times: list[float] = []
    for step in range(1 + _TIMED_STEPS):
        started_s = time.perf_counter()
        parts.step(batch.images_BCHW, batch.labels_B, step=step)
        _wait_for(parts.device)
        times.append(time.perf_counter() - started_s)
    image_s = (
        _seconds_per_image(config, parts, batch.images_BCHW.cpu().permute(0, 2, 3, 1).numpy()) if has_pairs else 0.0
    )
    return _Costs(
        first_step_s=times[0],
        step_s=statistics.median(times[1:]),
        image_s=image_s,
        peak_bytes=peak_memory(parts.device),
    )


def _seconds_per_image(config: Config, parts: Parts, pixels_BHWC: np.ndarray) -> float:
    pixels_BHWC = np.ascontiguousarray(pixels_BHWC[: config.eval.test_batch_size])
    times = []
    for _ in range(2):
        started_s = time.perf_counter()
        embed_pixels(parts.verified_backbone, pixels_BHWC, device=parts.device, flip=config.eval.flip)
        times.append(time.perf_counter() - started_s)
    return min(times) / len(pixels_BHWC)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_duration(seconds: float) -> str:
    """Seconds, minutes, or hours and minutes."""
    if seconds < 120.0:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60.0), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
