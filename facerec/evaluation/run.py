"""A whole evaluation: a checkpoint or stored embeddings in, results and a folder of reports out."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from facerec import __version__
from facerec.config.load import config_from_dict, config_to_dict, load_config
from facerec.config.schema import Config
from facerec.errors import UsageError
from facerec.evaluation.pictures import write_roc_picture, write_score_picture
from facerec.evaluation.report import result_to_json, write_summary
from facerec.evaluation.result import PairResult, score_pairs
from facerec.evaluation.stored import read_embeddings
from facerec.evaluation.suites import SetProgress, evaluate_suite, find_pair_sets
from facerec.fsio import atomic_write_text, sha256_file
from facerec.models.device import describe_device, resolve_device
from facerec.models.weights import LoadedBackbone, load_backbone

__all__ = ["EvaluationRun", "run_evaluation", "run_on_embeddings"]

_FOLDER = "evaluations"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """What an evaluation found and where it wrote."""

    results: list[PairResult]
    folder: Path
    summary: Path
    """``test_result_<name>_<timestamp>.txt``."""
    report: Path
    """``report.json``: facts and results."""
    pictures: tuple[Path, ...]
    """The ROC and the distributions of the scores."""


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

    Raises:
        UsageError: there is no pair set.
        FacerecError: as loading, embedding and the metrics say.
    """
    loaded, config, target = _load(checkpoint, config_path, overrides=overrides, device=device)
    config = _with_pair_sets(config, bins, name)
    pair_sets = find_pair_sets(config)
    if not pair_sets:
        raise UsageError("there is no pair set to verify on; give --bin FILE, or set eval.bin_file")
    results = evaluate_suite(
        loaded.backbone,
        pair_sets,
        image_hw=config.image_hw,
        device=target,
        batch_size=config.eval.test_batch_size,
        flip=config.eval.flip,
        progress=progress,
    )
    arguments = {"--config": config_path, "--checkpoint": checkpoint, "--name": name, "--device": device}
    listed = [*(("--set", text) for text in overrides), *(("--bin", file) for file in bins)]
    facts = {
        "command": _command([*arguments.items(), *listed]),
        **_describe_model(loaded),
        "images": f"{config.image_hw[0]}x{config.image_hw[1]}, {_describe_flip(config.eval.flip)}",
        "device": f"{target}: {describe_device(target)}",
        **{f"set {pair_set.name}": str(pair_set.path) for pair_set in pair_sets},
    }
    return _write(results, facts, name=name, output=output, log_dir=config.logging.log_dir)


def run_on_embeddings(
    path: str | Path,
    *,
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    output: Path | None = None,
) -> EvaluationRun:
    """Verify embeddings that another program stored; see `read_embeddings`.

    Of the configuration only ``logging.log_dir`` counts, as the place of the reports.

    Raises:
        MissingPathError, DataError, MetricError: as there and in `score_pairs`.
    """
    config = Config() if config_path is None else load_config(config_path, overrides)
    stored = read_embeddings(path)
    result = score_pairs(
        stored.embeddings,
        pair_index=stored.pair_index,
        issame=stored.issame,
        name=name or stored.path.stem,
        sha256=stored.sha256,
    )
    facts = {
        "command": _command([("--embeddings", path), ("--name", name)]),
        "model": f"unknown, embeddings of {stored.embeddings.original.shape[1]} dimensions from {path}",
        "images": _describe_flip(stored.embeddings.flipped is not None),
    }
    return _write([result], facts, name=name, output=output, log_dir=config.logging.log_dir)


def _load(
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


def _with_pair_sets(config: Config, bins: Sequence[str], name: str | None) -> Config:
    section = config.eval
    if bins:
        section = dataclasses.replace(section, bin_file=tuple(bins), dataset=None)
    files = dataclasses.replace(config, eval=section).bin_files
    if name and len(files) == 1:
        section = dataclasses.replace(section, bin_file=files, dataset=name)
    return dataclasses.replace(config, eval=section)


def _describe_model(loaded: LoadedBackbone) -> dict[str, str]:
    weights = loaded.path / _WEIGHTS if loaded.path.is_dir() else loaded.path
    return {"model": loaded.description, "SHA-256 of the weights": sha256_file(weights)}


def _describe_flip(flip: bool) -> str:
    return "original and mirrored images" if flip else "original images alone"


def _command(arguments: Sequence[tuple[str, object]]) -> str:
    words = [word for option, value in arguments if value is not None for word in (option, str(value))]
    return shlex.join(["facerec", "evaluate", *words])


def _write(
    results: list[PairResult], facts: dict[str, str], *, name: str | None, output: Path | None, log_dir: str
) -> EvaluationRun:
    now = datetime.now(UTC)
    label = re.sub(r"[^\w.-]", "_", name or "_".join(result.name for result in results))[:80].lstrip(".") or "set"
    stamp = f"{now:%Y%m%d_%H%M%S}"
    folder = output if output is not None else _new_folder(Path(log_dir) / _FOLDER / f"{label}_{stamp}")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {**facts, "versions": f"facerec {__version__}, torch {torch.__version__}", "time": f"{now:%F %T} UTC"}
    summary = folder / f"test_result_{label}_{stamp}.txt"
    write_summary(results, summary, facts=facts)
    report = folder / "report.json"
    content = {"facts": facts, "results": {result.name: result_to_json(result) for result in results}}
    atomic_write_text(report, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    pictures = folder / "roc.png", folder / "scores.png"
    write_roc_picture(results, pictures[0])
    write_score_picture(results, pictures[1])
    return EvaluationRun(results=results, folder=folder, summary=summary, report=report, pictures=pictures)


def _new_folder(wanted: Path) -> Path:
    """``wanted``, or where another evaluation of the same second has it, the name with a number."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{wanted} exists a thousand times; give --output DIR")
