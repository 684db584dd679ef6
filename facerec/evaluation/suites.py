"""Verification sets of a configuration, and a model's results on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facerec.config.schema import Config
from facerec.data.pairs import PairSet, read_pairs
from facerec.errors import ConfigError, MissingPathError
from facerec.evaluation.embed import Progress, embed_images
from facerec.evaluation.names import MEAN, resolve_monitor
from facerec.evaluation.result import PairResult, metric_values, score_pairs

__all__ = [
    "PairResult",
    "SetProgress",
    "evaluate_pair_set",
    "evaluate_suite",
    "find_pair_sets",
    "locate_pair_file",
    "metric_values",
    "resolve_monitor",
]

SetProgress = Callable[[str, int, int], None]
"""Called with the name of the set and the numbers of images that are done and of all."""


def find_pair_sets(config: Config) -> list[PairSet]:
    """Read the verification sets of a configuration; none, if it names none.

    A relative name is looked for under ``data.root``, then in the working folder. A single set is called
    ``eval.dataset`` where that is set; otherwise a set has the name of its file without the ending.

    Raises:
        MissingPathError: a file is not there; the message names the places.
        ConfigError: two files would give their metrics the same names.
        PairSetError: a file is damaged or tries to run code.
    """
    names = config.bin_files
    chosen = config.eval.dataset if len(names) == 1 else None
    paths = [locate_pair_file(name, data_root=config.data.root) for name in names]
    labels = [chosen or path.stem for path in paths]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"eval.bin_file: two pair sets are called '{label}'; rename one of the files")
        if label == MEAN and len(labels) > 1:
            raise ConfigError(f"eval.bin_file: '{MEAN}' is the name of the mean over the sets; rename that file")
    return [read_pairs(path, name=label) for path, label in zip(paths, labels, strict=True)]


def locate_pair_file(name: str, *, data_root: str | None) -> Path:
    """The path of a pair set: absolute, else under ``data_root``, else in the working folder.

    Raises:
        MissingPathError: it is in none of these places.
    """
    given = Path(name).expanduser()
    places = [given]
    if not given.is_absolute() and data_root is not None:
        places.insert(0, Path(data_root).expanduser() / given)
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(str(place.absolute()) for place in places)
    raise MissingPathError(f"pair set {name} does not exist (looked for {tried}); check eval.bin_file and data.root")


def evaluate_pair_set(
    backbone: nn.Module,
    pair_set: PairSet,
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool = True,
    progress: Progress | None = None,
) -> PairResult:
    """Verify a backbone that is on ``device`` on one set; see `embed_images` and `score_pairs`.

    Raises:
        ImageError, ModelError, MetricError: as there.
    """
    embeddings = embed_images(
        backbone,
        pair_set.images,
        image_hw=image_hw,
        device=device,
        batch_size=batch_size,
        flip=flip,
        what=f"{pair_set.name}: image",
        progress=progress,
    )
    return score_pairs(
        embeddings,
        pair_index=np.arange(2 * pair_set.num_pairs).reshape(-1, 2),
        issame=pair_set.issame,
        name=pair_set.name,
        sha256=pair_set.sha256,
    )


def evaluate_suite(
    backbone: nn.Module,
    pair_sets: Sequence[PairSet],
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool = True,
    progress: SetProgress | None = None,
) -> list[PairResult]:
    """Verify a backbone on several sets, in their order; see `evaluate_pair_set`."""

    def progress_of(name: str) -> Progress | None:
        return None if progress is None else lambda done, total: progress(name, done, total)

    return [
        evaluate_pair_set(
            backbone,
            pair_set,
            image_hw=image_hw,
            device=device,
            batch_size=batch_size,
            flip=flip,
            progress=progress_of(pair_set.name),
        )
        for pair_set in pair_sets
    ]
