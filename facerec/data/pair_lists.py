"""Which pictures make the pairs of a verification set: drawn ones, and those of a ``pairs.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from facerec.errors import MissingPathError, PairSetError, UsageError
from facerec.rng import counter_generator

__all__ = ["NUM_FOLDS", "ListedPair", "Pair", "Picture", "draw_pairs", "read_pair_list", "write_pair_list"]

NUM_FOLDS = 10
"""The folds of the verification protocol: consecutive blocks of pairs."""

Picture = tuple[int, int]
"""An identity and the number of one of its pictures, from 0."""
Pair = tuple[Picture, Picture]

_GENUINE, _IMPOSTOR = 0, 1


@dataclass(frozen=True, slots=True)
class ListedPair:
    """One line of a ``pairs.txt``: two pictures by the name of the person and the number or name of the picture."""

    first: tuple[str, str]
    second: tuple[str, str]
    is_genuine: bool
    line: int
    """Its line in the file, from 1."""


def draw_pairs(num_pictures: Sequence[int], num_pairs: int, *, seed: int) -> tuple[list[Pair], list[bool]]:
    """Draw pairs without repeats, one half genuine, in ten blocks of as many genuine as impostor pairs.

    With twenty identities or more, no identity is in two blocks, so that the folds of the protocol are folds of people;
    with fewer, every block draws from all of them.

    Args:
        num_pictures: How many pictures each identity has.
        num_pairs: A multiple of twenty.
        seed: The same seed draws the same pairs.

    Returns:
        The pairs, and whether each is genuine.

    Raises:
        UsageError: the number is no multiple of twenty, or so many different pairs do not exist.
    """
    if num_pairs < 1 or num_pairs % (2 * NUM_FOLDS):
        raise UsageError(
            f"{num_pairs} pairs do not make ten folds of as many genuine as impostor pairs; give a multiple of 20"
        )
    per_fold = num_pairs // (2 * NUM_FOLDS)
    shuffled = counter_generator(seed, 0).permutation(len(num_pictures)).tolist()
    if len(shuffled) >= 2 * NUM_FOLDS:
        blocks = [
            _draw_block(num_pictures, sorted(shuffled[fold::NUM_FOLDS]), per_fold, seed=seed, fold=fold)
            for fold in range(NUM_FOLDS)
        ]
    else:
        genuine, impostor = _draw_block(num_pictures, sorted(shuffled), per_fold * NUM_FOLDS, seed=seed, fold=0)
        blocks = [(genuine[fold::NUM_FOLDS], impostor[fold::NUM_FOLDS]) for fold in range(NUM_FOLDS)]
    pairs: list[Pair] = []
    issame: list[bool] = []
    for genuine, impostor in blocks:
        pairs += genuine + impostor
        issame += [True] * len(genuine) + [False] * len(impostor)
    return pairs, issame


def _draw_block(
    num_pictures: Sequence[int], identities: Sequence[int], wanted: int, *, seed: int, fold: int
) -> tuple[list[Pair], list[Pair]]:
    sizes = np.array([num_pictures[identity] for identity in identities], dtype=np.int64)
    num_genuine = int((sizes * (sizes - 1) // 2).sum())
    num_impostor = int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    if wanted > min(num_genuine, num_impostor):
        kind, number = ("genuine", num_genuine) if wanted > num_genuine else ("impostor", num_impostor)
        raise UsageError(
            f"{len(identities)} identities with {sizes.sum()} pictures give {number} different {kind} pairs, but "
            f"{wanted} are wanted of them; ask for fewer pairs, or hold out more identities"
        )
    genuine = _draw_genuine(num_pictures, identities, wanted, seed=seed)
    return genuine, _draw_impostor(sizes, identities, wanted, seed=seed, fold=fold)


def _draw_genuine(num_pictures: Sequence[int], identities: Sequence[int], wanted: int, *, seed: int) -> list[Pair]:
    """In turn one pair of every identity that has one left, so that people with many pictures do not prevail."""
    queues = []
    for identity in identities:
        own = list(combinations(range(num_pictures[identity]), 2))
        order = counter_generator(seed, 1 + _GENUINE, identity).permutation(len(own))
        queues.append([(identity, *own[place]) for place in order[:wanted].tolist()])
    drawn: list[Pair] = []
    for turn in range(max(map(len, queues), default=0)):
        drawn += [
            ((queue[turn][0], queue[turn][1]), (queue[turn][0], queue[turn][2]))
            for queue in queues
            if turn < len(queue)
        ]
        if len(drawn) >= wanted:
            break
    return drawn[:wanted]


def _draw_impostor(
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]], identities: Sequence[int], wanted: int, *, seed: int, fold: int
) -> list[Pair]:
    """Draw two pictures at a time, and again where they are of one identity or were drawn before."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    generator = counter_generator(seed, 1 + _IMPOSTOR, fold)
    drawn: dict[tuple[int, int], None] = {}
    while len(drawn) < wanted:
        for one, other in np.sort(generator.integers(0, total, size=(wanted + 16, 2)), axis=1).tolist():
            if np.searchsorted(ends, one, side="right") != np.searchsorted(ends, other, side="right"):
                drawn.setdefault((one, other))
    return [
        (_picture(one, ends, identities, sizes), _picture(other, ends, identities, sizes))
        for one, other in list(drawn)[:wanted]
    ]


def _picture(
    place: int,
    ends: np.ndarray[tuple[int], np.dtype[np.int64]],
    identities: Sequence[int],
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Picture:
    row = int(np.searchsorted(ends, place, side="right"))
    return identities[row], place - int(ends[row] - sizes[row])


def read_pair_list(path: Path) -> list[ListedPair]:
    r"""Read a ``pairs.txt`` in LFW's form.

    The first line may hold one or two numbers (folds, and pairs of a kind in each). Every other line is a genuine pair,
    ``name<TAB>n<TAB>n``, or an impostor pair, ``name<TAB>n<TAB>name<TAB>n``. Without tabs, blanks separate. A picture
    is named by its number, from 1, or by its file name.

    Raises:
        MissingPathError: the file does not exist or cannot be read.
        PairSetError: a line has another form, an impostor pair names one person twice, or the header counts otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise MissingPathError(f"pair list {path} cannot be read ({error.strerror}); check the path") from error
    pairs: list[ListedPair] = []
    announced: int | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        fields = _fields(line)
        if not pairs and announced is None and fields and len(fields) <= 2 and all(field.isdigit() for field in fields):
            counts = [int(field) for field in fields]
            announced = 2 * counts[0] * counts[1] if len(counts) == 2 else 2 * counts[0]
        elif fields:
            pairs.append(_listed_pair(fields, path, number))
    if not pairs:
        raise PairSetError(f"pair list {path} holds no pairs")
    if announced is not None and announced != len(pairs):
        raise PairSetError(
            f"pair list {path} announces {announced} pairs in its first line, but holds {len(pairs)}; it may be cut off"
        )
    return pairs


def _fields(line: str) -> list[str]:
    line = line.rstrip("\r")
    fields = line.split("\t") if "\t" in line else line.split()
    return [field.strip() for field in fields if field.strip()]


def _listed_pair(fields: list[str], path: Path, line: int) -> ListedPair:
    if len(fields) == 3:
        name, one, other = fields
        return ListedPair((name, one), (name, other), is_genuine=True, line=line)
    if len(fields) == 4:
        name, one, other_name, other = fields
        if name == other_name:
            raise PairSetError(f"{path}, line {line}: an impostor pair names {name!r} twice; write 'name n n' instead")
        return ListedPair((name, one), (other_name, other), is_genuine=False, line=line)
    raise PairSetError(f"{path}, line {line} is neither 'name n n' nor 'name n name n'; separate the columns by tabs")


def write_pair_list(
    path: Path, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]], issame: Sequence[bool]
) -> None:
    """Write a ``pairs.txt`` that `read_pair_list` reads; where the blocks allow it, with LFW's first line."""
    lines = []
    per_fold, remainder = divmod(len(pairs), 2 * NUM_FOLDS)
    if not remainder and 2 * sum(issame) == len(issame):
        lines.append(f"{NUM_FOLDS}\t{per_fold}")
    for (first, second), same in zip(pairs, issame, strict=True):
        lines.append("\t".join((*first, second[1]) if same else (*first, *second)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
