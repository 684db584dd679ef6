"""Rules that span several keys, and names that must be known. Each problem is a dotted path and a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from facerec.config.data_checks import check_data
from facerec.config.monitor import TRAINING_LOSS, is_training_loss, natural_mode
from facerec.config.schema import BACKBONE_OPTIONS, Config, head_option_names, head_options
from facerec.registry import BACKBONES, HEADS, Registry

__all__ = ["Problem", "check"]

Problem = tuple[str, str]

_DEVICE_KINDS = ("auto", "cpu", "cuda")


def check(config: Config) -> Iterator[Problem]:
    """Yield every problem of a structurally valid configuration."""
    yield from _check_names(config)
    yield from _check_head(config)
    yield from check_data(config)
    yield from _check_training(config)
    yield from _check_evaluation(config)


def _check_names(config: Config) -> Iterator[Problem]:
    kind, _, index = config.device.partition(":")
    if kind not in _DEVICE_KINDS or (index and not (kind == "cuda" and index.isdecimal())):
        yield "device", f"'{config.device}' is no device; use auto, cpu, cuda or cuda:N"
    yield from _check_registered("model.backbone", config.model.backbone, BACKBONES)
    yield from _check_registered("head.type", config.head.type, HEADS)
    if config.model.pretrained is True:
        yield "model.pretrained", "true names no weights; give the path of a checkpoint or weights file, or false"
    backbone = config.model.backbone
    if backbone in BACKBONES:
        options = BACKBONES.entry(backbone).options
        for name in BACKBONE_OPTIONS:
            if getattr(config.model, name) is not None and name not in options:
                yield f"model.{name}", f"{backbone} has no {name}; remove the key"


def _check_registered(path: str, name: str, registry: Registry) -> Iterator[Problem]:
    if name not in registry:
        yield path, registry.unknown(name)


def _check_head(config: Config) -> Iterator[Problem]:
    head = config.head
    if head.type not in HEADS:
        return
    options = HEADS.entry(head.type).options
    for name in head_option_names():
        if getattr(head, name) is not None and name not in options:
            yield f"head.{name}", f"has no effect with head.type '{head.type}'; remove it"
    gradient = options.get("gradient") if head.gradient is None else head.gradient
    if head.easy_margin and gradient == "straight_through":
        yield "head.easy_margin", "belongs to the exact gradient; set head.gradient: exact or remove it"
    chosen = head_options(head, options)
    for low, high in (("l_a", "u_a"), ("l_m", "u_m")):
        if low in chosen and chosen[low] > chosen[high]:
            yield f"head.{low}", f"{chosen[low]:g} is above head.{high} ({chosen[high]:g})"
    if head.chunk_mib is not None and head.loss != "fused":
        yield "head.chunk_mib", "has no effect with head.loss 'plain'; set head.loss: fused or remove it"


def _check_training(config: Config) -> Iterator[Problem]:
    training = config.training
    if training.warmup_epochs > training.epochs:
        yield (
            "training.warmup_epochs",
            f"{training.warmup_epochs:g} is longer than training.epochs ({training.epochs}); shorten the warm-up",
        )
    if training.scheduler == "multistep" and list(training.milestones) != sorted(set(training.milestones)):
        yield "training.milestones", "must rise strictly, such as [10, 18, 22]"
    yield from _check_speed(config)
    if training.freeze_backbone_epochs >= training.epochs:
        yield (
            "training.freeze_backbone_epochs",
            f"{training.freeze_backbone_epochs} leaves no epoch of {training.epochs} in which the backbone learns",
        )
    if training.min_lr > training.lr:
        yield "training.min_lr", f"{training.min_lr:g} is above training.lr ({training.lr:g})"
    natural = natural_mode(training.monitor)
    if training.mode and natural and training.mode != natural:
        extreme = "largest" if training.mode == "max" else "smallest"
        yield (
            "training.mode",
            f"'{training.mode}' would keep the checkpoint with the {extreme} {training.monitor}; "
            f"set mode: {natural}, or remove the key",
        )
    if training.grad_clip_part == "backbone" and not training.grad_clip_norm:
        yield "training.grad_clip_part", "has no effect with training.grad_clip_norm 0; remove it"
    if training.early_stop and not config.bin_files and not is_training_loss(training.monitor):
        yield (
            "training.early_stop",
            f"needs something to watch: set eval.bin_file, or training.monitor: {TRAINING_LOSS}",
        )


def _check_speed(config: Config) -> Iterator[Problem]:
    training, batch = config.training, config.data.batch_size
    parts = training.accumulation_steps
    if batch % parts:
        yield "training.accumulation_steps", f"{parts} does not divide data.batch_size ({batch}) into equal parts"
    if parts > 1 and training.compile in ("reduce-overhead", "max-autotune"):
        yield (
            "training.compile",
            f"'{training.compile}' replays CUDA graphs, which do not accumulate gradients; use default or "
            "max-autotune-no-cudagraphs, or training.accumulation_steps: 1",
        )
    if training.data_parallel and training.compile is not False:
        yield "training.data_parallel", "cannot be compiled; start one process per GPU with --nproc instead"


def _check_evaluation(config: Config) -> Iterator[Problem]:
    if isinstance(config.eval.bin_file, tuple):
        if config.eval.dataset is not None and len(config.eval.bin_file) > 1:
            yield "eval.dataset", "names one pair set, but eval.bin_file lists several; remove eval.dataset"
        stems = [name.rsplit("/", 1)[-1] for name in config.eval.bin_file]
        if len(set(stems)) < len(stems):
            yield "eval.bin_file", "lists two files of the same name, so their metrics would share their names"
