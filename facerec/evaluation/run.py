"""A whole evaluation: a checkpoint or stored embeddings in, results and a folder of reports out."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facerec.config.load import config_from_dict, config_to_dict, load_config
from facerec.config.schema import Config
from facerec.data.decode import decode_image
from facerec.data.pairs import PairSet
from facerec.errors import ConfigError, UsageError
from facerec.evaluation.confidence import NUM_RESAMPLES, Confidence, estimate_confidence
from facerec.evaluation.grouping import GROUP_FAR, GroupReport, measure_groups, read_groups
from facerec.evaluation.names import MEAN
from facerec.evaluation.output import EvaluationRun, FacePicture, file_label, write_evaluation
from facerec.evaluation.result import PairResult
from facerec.evaluation.stored import read_embeddings, score_stored, write_embeddings
from facerec.evaluation.suites import (
    EmbeddedPairs,
    SetProgress,
    embed_configured,
    find_pair_sets,
    locate_pair_file,
    read_verification_set,
    score_embedded,
)
from facerec.fsio import sha256_file
from facerec.models.device import describe_device, resolve_device
from facerec.models.weights import LoadedBackbone, load_backbone

__all__ = [
    "EvaluationRun",
    "ReportOptions",
    "command_of",
    "describe_flip",
    "describe_model",
    "load_model",
    "run_evaluation",
    "run_on_embeddings",
    "with_pair_sets",
]

_FOLDER = "evaluations"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What the reports hold beside the metrics."""

    num_resamples: int = NUM_RESAMPLES
    """Resamples of the bootstrap over people; 0 leaves its intervals out."""
    faces: bool = True
    """Show the hardest pairs, where the images are at hand."""
    group_sets: tuple[tuple[str, str], ...] = ()
    """Names of groups and the pair set of each."""
    groups_csv: str | None = None
    """A CSV with the group of each pair."""
    group_far: float = GROUP_FAR
    """FAR over all pairs at which the groups' common threshold lies."""
    save_embeddings: Path | None = None
    """Where to store the embeddings; of several sets each has its name added."""


def run_evaluation(
    *,
    checkpoint: str | Path,
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    bins: Sequence[str] = (),
    name: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    progress: SetProgress | None = None,
    options: ReportOptions | None = None,
    subject: str | None = None,
) -> EvaluationRun:
    """Verify a checkpoint on pair sets and write the reports.

    Args:
        checkpoint: A checkpoint or run folder, or a weights file.
        config_path: The configuration; a checkpoint of this project carries its own.
        overrides: ``KEY=VALUE`` texts over either of them.
        bins: Pair sets in place of the configuration's, found as `find_pair_sets` says.
        name: Name of the set where there is one, and of the report.
        output: Folder for the reports; by default a new one under ``logging.log_dir``.
        device: In place of the configuration's.
        progress: Told of every batch.
        options: What the reports hold.
        subject: How the user named the checkpoint, where it was fetched from elsewhere.

    Raises:
        UsageError: there is no pair set.
        FacerecError: as loading, embedding and the metrics say.
    """
    options = options or ReportOptions()
    loaded, config, target = load_model(checkpoint, config_path, overrides=overrides, device=device)
    config = with_pair_sets(config, bins, name)
    pair_sets = _find_sets(config, bins=bins, options=options)
    csv_groups = _read_csv_groups(options, [pair_set.num_pairs for pair_set in pair_sets])
    embedded = embed_configured(loaded.backbone, pair_sets, config=config, device=target, progress=progress)
    results = [score_embedded(one) for one in embedded]
    _save(embedded, options.save_embeddings)
    listed = [*(("--bin", file) for file in bins), *_group_arguments(options)]
    facts = {
        "command": command_of(
            subject or checkpoint, config_path=config_path, overrides=overrides, name=name, device=device, others=listed
        ),
        **describe_model(loaded),
        "images": f"{config.image_hw[0]}x{config.image_hw[1]}, {describe_flip(config.eval.flip)}",
        "device": f"{target}: {describe_device(target)}",
        **{f"set {pair_set.name}": str(pair_set.path) for pair_set in pair_sets},
    }
    return write_evaluation(
        results,
        facts=facts,
        name=name,
        output=output,
        parent=Path(config.logging.log_dir) / _FOLDER,
        confidences=_confidences(results, options),
        groups=_measure_groups(results, csv_groups, options),
        faces={one.name: _face_picture(one, config.image_hw) for one in pair_sets} if options.faces else {},
    )


def run_on_embeddings(
    path: str | Path,
    *,
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    output: Path | None = None,
    options: ReportOptions | None = None,
) -> EvaluationRun:
    """Verify embeddings that another program stored; see `read_embeddings`.

    Of the configuration only ``logging.log_dir`` counts, as the place of the reports.

    Raises:
        MissingPathError, DataError, MetricError: as there and in `score_pairs`.
    """
    options = options or ReportOptions()
    config = Config() if config_path is None else load_config(config_path, overrides)
    stored = read_embeddings(path)
    groups = _read_csv_groups(options, [len(stored.issame)]) or ([stored.group] if stored.group is not None else None)
    result = score_stored(stored, name=name or stored.path.stem)
    facts = {
        "command": _command([("--embeddings", path), ("--name", name), ("--groups", options.groups_csv)]),
        "model": f"unknown, embeddings of {stored.embeddings.original.shape[1]} dimensions from {path}",
        "images": describe_flip(stored.embeddings.flipped is not None),
    }
    return write_evaluation(
        [result],
        facts=facts,
        name=name,
        output=output,
        parent=Path(config.logging.log_dir) / _FOLDER,
        confidences=_confidences([result], options),
        groups=_measure_groups([result], groups, options),
    )


def load_model(
    checkpoint: str | Path, config_path: str | Path | None, *, overrides: Sequence[str], device: str | None
) -> tuple[LoadedBackbone, Config, torch.device]:
    """The backbone, the configuration that counts, and the device that the backbone is on."""
    if config_path is not None:
        config = load_config(config_path, overrides)
        target = resolve_device(device or config.device)
        return load_backbone(checkpoint, config=config, device=target), config, target
    loaded = load_backbone(checkpoint)
    config = _override(loaded.config, overrides)
    target = resolve_device(device or config.device)
    loaded.backbone.to(target)
    return loaded, config, target


def _override(config: Config, overrides: Sequence[str]) -> Config:
    if not overrides:
        return config
    return config_from_dict(config_to_dict(config), overrides=overrides, source="the checkpoint's configuration")


def with_pair_sets(config: Config, bins: Sequence[str], name: str | None) -> Config:
    """The configuration with other pair sets, if any are given, and with a name for a single one."""
    section = config.eval
    if bins:
        section = dataclasses.replace(section, bin_file=tuple(bins), dataset=None)
    files = dataclasses.replace(config, eval=section).bin_files
    if name and len(files) == 1:
        section = dataclasses.replace(section, bin_file=files, dataset=name)
    return dataclasses.replace(config, eval=section)


def describe_model(loaded: LoadedBackbone) -> dict[str, str]:
    """Which weights these are, as facts of a report."""
    weights = loaded.path / _WEIGHTS if loaded.path.is_dir() else loaded.path
    return {"model": loaded.description, "SHA-256 of the weights": sha256_file(weights)}


def describe_flip(flip: bool) -> str:
    """Which images count, as a fact of a report."""
    return "original and mirrored images" if flip else "original images alone"


def _group_arguments(options: ReportOptions) -> list[tuple[str, object]]:
    named = [("--group", f"{group}={file}") for group, file in options.group_sets]
    return [("--groups", options.groups_csv), *named]


def command_of(
    checkpoint: str | Path,
    *,
    config_path: str | Path | None,
    overrides: Sequence[str],
    name: str | None,
    device: str | None,
    others: Sequence[tuple[str, object]],
) -> str:
    """The command that evaluates a checkpoint like this, as a fact of a report."""
    own = [("--config", config_path), ("--checkpoint", checkpoint), ("--name", name), ("--device", device)]
    return _command([*own, *(("--set", text) for text in overrides), *others])


def _command(arguments: Sequence[tuple[str, object]]) -> str:
    words = [word for option, value in arguments if value is not None for word in (option, str(value))]
    return shlex.join(["facerec", "evaluate", *words])


def _find_sets(config: Config, *, bins: Sequence[str], options: ReportOptions) -> list[PairSet]:
    # Sets of groups take the place of the configuration's, as those of --bin do.
    pair_sets = find_pair_sets(config) if bins or not options.group_sets else []
    for group, file in options.group_sets:
        if group == MEAN or group in [pair_set.name for pair_set in pair_sets]:
            raise ConfigError(f"--group: another set, or the mean, is called '{group}'; give it another name")
        pair_sets.append(read_verification_set(locate_pair_file(file, data_root=config.data.root), name=group))
    if not pair_sets:
        raise UsageError("there is no pair set to verify on; give --bin FILE, or set eval.bin_file")
    return pair_sets


def _read_csv_groups(options: ReportOptions, sizes: Sequence[int]) -> list[NDArray[np.str_]] | None:
    if options.groups_csv is None:
        return None
    if options.group_sets:
        raise UsageError("--group and --groups both say which group a pair belongs to; give one of them")
    if len(sizes) != 1:
        raise UsageError(f"--groups numbers the pairs of one set, but there are {len(sizes)}; choose one with --bin")
    return [read_groups(options.groups_csv, num_pairs=sizes[0])]


def _measure_groups(
    results: Sequence[PairResult], groups: Sequence[NDArray[np.str_]] | None, options: ReportOptions
) -> GroupReport | None:
    named = {group for group, _ in options.group_sets}
    if groups is None and not named:
        return None
    if groups is None:
        groups = [np.full(result.pairs, result.name if result.name in named else "") for result in results]
    return measure_groups(results, groups, far=options.group_far)


def _confidences(results: Sequence[PairResult], options: ReportOptions) -> list[Confidence | None]:
    if options.num_resamples == 0:
        return [None] * len(results)
    return [estimate_confidence(result, num_resamples=options.num_resamples) for result in results]


def _save(embedded: Sequence[EmbeddedPairs], path: Path | None) -> None:
    if path is None:
        return
    for one in embedded:
        label = file_label(one.pair_set.name)
        target = path if len(embedded) == 1 else path.with_name(f"{path.stem}_{label}{path.suffix or '.npz'}")
        write_embeddings(
            target,
            one.embeddings,
            pair_index=one.pair_index,
            issame=one.pair_set.issame,
            pair_set=one.pair_set.sha256,
        )


def _face_picture(pair_set: PairSet, image_hw: tuple[int, int]) -> FacePicture:
    def picture(pair: int, side: int) -> NDArray[np.uint8]:
        index = 2 * pair + side
        return decode_image(pair_set.images[index], image_hw=image_hw, what=f"{pair_set.name}: image {index}")

    return picture
