"""Verification sets of a configuration, and a model's results on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facerec.config.schema import Config
from facerec.data.pairs import PairSet, read_pairs
from facerec.errors import ConfigError, MissingPathError, PairSetError
from facerec.evaluation.embed import Embeddings, distinct_images, embed_images
from facerec.evaluation.names import MEAN, bound_fars, metric_key, resolve_monitor, tar_name
from facerec.evaluation.result import PairResult, metric_values, score_pairs
from facerec.metrics.protocols import NUM_FOLDS

__all__ = [
    "EmbeddedPairs",
    "PairResult",
    "SetProgress",
    "doubtful_monitor",
    "embed_configured",
    "embed_pair_sets",
    "evaluate_configured",
    "evaluate_suite",
    "find_pair_sets",
    "locate_pair_file",
    "metric_values",
    "read_verification_set",
    "resolve_monitor",
    "score_embedded",
]

SetProgress = Callable[[str, int, int], None]
"""Called with the name of the set and the numbers of images that are done and of all."""


def find_pair_sets(config: Config) -> list[PairSet]:
    """Read the verification sets of a configuration; none, if it names none.

    A relative name is looked for under ``data.root``, each of several in turn, then in the working folder. A single
    set is called ``eval.dataset`` where that is set; otherwise a set has the name of its file without the ending.

    Raises:
        MissingPathError: a file is not there; the message names the places.
        ConfigError: two files would give their metrics the same names.
        PairSetError: as `read_verification_set`.
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
    return [read_verification_set(path, name=label) for path, label in zip(paths, labels, strict=True)]


def read_verification_set(path: Path, *, name: str) -> PairSet:
    """Read a pair set that a model can be verified on; known before a training spends its first epoch.

    Raises:
        PairSetError: the file is damaged or tries to run code, holds one kind of pair only, or too few for the folds.
    """
    found = read_pairs(path, name=name)
    if found.num_pairs < NUM_FOLDS or found.num_genuine in (0, found.num_pairs):
        raise PairSetError(
            f"{path} holds {found.num_pairs} pairs, {found.num_genuine} of them genuine; verification needs at least "
            f"{NUM_FOLDS} pairs, and genuine and impostor ones among them"
        )
    return found


def locate_pair_file(name: str, *, data_root: str | Sequence[str] | None) -> Path:
    """The path of a pair set: absolute, else under ``data_root`` or the first of several, else in the working folder.

    Raises:
        MissingPathError: it is in none of these places.
    """
    given = Path(name).expanduser()
    places = [given]
    if not given.is_absolute() and data_root is not None:
        roots = [data_root] if isinstance(data_root, str) else data_root
        places = [*(Path(root).expanduser() / given for root in roots), given]
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(str(place.absolute()) for place in places)
    raise MissingPathError(f"pair set {name} does not exist (looked for {tried}); check eval.bin_file and data.root")


def doubtful_monitor(key: str, pair_sets: Sequence[PairSet]) -> str:
    """Why a monitored metric tells models apart by chance on these sets, in a sentence; empty where it does not."""
    for pairs in pair_sets:
        num_impostor = pairs.num_pairs - pairs.num_genuine
        for far in bound_fars(num_impostor):
            if key in (metric_key(name, tar_name(far)) for name in (pairs.name, MEAN)):
                return (
                    f"training.monitor: {key} hangs on one or two pairs, as {pairs.name} has {num_impostor} impostor "
                    "pairs, too few for this FAR; a higher FAR, accuracy or auc says more"
                )
    return ""


def evaluate_configured(
    backbone: nn.Module,
    pair_sets: Sequence[PairSet],
    *,
    config: Config,
    device: torch.device,
    progress: SetProgress | None = None,
) -> list[PairResult]:
    """Verify a backbone that is on ``device`` as a configuration says; see `embed_configured` and `score_pairs`.

    Raises:
        ImageError, ModelError, MetricError: as there.
    """
    embedded = embed_configured(backbone, pair_sets, config=config, device=device, progress=progress)
    return [score_embedded(one) for one in embedded]


def embed_configured(
    backbone: nn.Module,
    pair_sets: Sequence[PairSet],
    *,
    config: Config,
    device: torch.device,
    progress: SetProgress | None = None,
    embed: Callable[..., Embeddings] = embed_images,
) -> list[EmbeddedPairs]:
    """`embed_pair_sets` with the settings of a configuration."""
    return embed_pair_sets(
        backbone,
        pair_sets,
        image_hw=config.image_hw,
        device=device,
        batch_size=config.eval.test_batch_size,
        flip=config.eval.flip,
        progress=progress,
        embed=embed,
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
    """Verify a backbone on several sets, in their order; see `embed_pair_sets` and `score_pairs`."""
    embedded = embed_pair_sets(
        backbone,
        pair_sets,
        image_hw=image_hw,
        device=device,
        batch_size=batch_size,
        flip=flip,
        progress=progress,
    )
    return [score_embedded(one) for one in embedded]


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedPairs:
    """A pair set and the embeddings of its different images."""

    pair_set: PairSet
    embeddings: Embeddings
    """One row for each different image of all sets that were embedded together."""
    pair_index: NDArray[np.intp]
    """(P, 2), rows of the embeddings."""


def embed_pair_sets(
    backbone: nn.Module,
    pair_sets: Sequence[PairSet],
    *,
    image_hw: tuple[int, int],
    device: torch.device,
    batch_size: int,
    flip: bool = True,
    progress: SetProgress | None = None,
    embed: Callable[..., Embeddings] = embed_images,
) -> list[EmbeddedPairs]:
    """Embed every different image of all sets once: pairs share images, and so do sets.

    ``embed`` takes what `embed_images` takes; several processes share the images by it.

    Raises:
        ImageError, ModelError: as `embed_images`; the message names set and image.
    """
    images = [image for pair_set in pair_sets for image in pair_set.images]
    starts = np.cumsum([0, *(len(pair_set.images) for pair_set in pair_sets)])
    first_seen, slots = distinct_images(images)
    set_of_slot = np.searchsorted(starts, first_seen, side="right") - 1

    def name_of(slot: int) -> str:
        owner = int(set_of_slot[slot])
        return f"{pair_sets[owner].name}: image {first_seen[slot] - starts[owner]}"

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(pair_sets[int(set_of_slot[done - 1])].name, done, total)

    embeddings = embed(
        backbone,
        [images[index] for index in first_seen],
        image_hw=image_hw,
        device=device,
        batch_size=batch_size,
        flip=flip,
        what=name_of,
        progress=tell,
    )
    return [
        EmbeddedPairs(pair_set=pair_set, embeddings=embeddings, pair_index=slots[start:stop].reshape(-1, 2))
        for pair_set, start, stop in zip(pair_sets, starts[:-1], starts[1:], strict=True)
    ]


def score_embedded(embedded: EmbeddedPairs) -> PairResult:
    """The result of a set whose images are embedded; see `score_pairs`."""
    return score_pairs(
        embedded.embeddings,
        pair_index=embedded.pair_index,
        issame=embedded.pair_set.issame,
        name=embedded.pair_set.name,
        sha256=embedded.pair_set.sha256,
    )
