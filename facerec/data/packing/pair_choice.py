"""The verification set beside a pack: who is in it, and which pictures are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from facerec.data.packing.prepare import ImageForm, prepare_files
from facerec.data.packing.rejects import Rejected
from facerec.data.packing.scan import Person, SourceFolder
from facerec.data.pair_lists import ListedPair, draw_pairs, read_pair_list
from facerec.data.pairs import write_pairs
from facerec.data.parallel import ordered_map
from facerec.errors import PairSetError, UsageError
from facerec.rng import counter_generator

__all__ = ["ChosenPairs", "PairPlan", "WrittenPairs", "choose_pairs", "write_pair_set"]

_HOLDOUT_STREAM = 3
_IMAGES_PER_TASK = 32


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """Which verification set to make: of a list, of people held out, or none."""

    pair_list: Path | None = None
    """A ``pairs.txt``."""
    num_holdout: int = 0
    """People drawn for verification."""
    num_pairs: int = 0
    """Pairs of their pictures, a multiple of 20."""
    bin_name: str = "holdout.bin"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.pair_list is not None and (self.num_holdout or self.num_pairs):
            raise UsageError("the pairs come either from a list (--pairs) or from people held out, not from both")
        if bool(self.num_holdout) != bool(self.num_pairs) or min(self.num_holdout, self.num_pairs) < 0:
            raise UsageError("to hold people out, give both --holdout-identities and --num-pairs")
        if (
            PurePath(self.bin_name).name != self.bin_name
            or not self.bin_name.endswith(".bin")
            or self.bin_name == ".bin"
        ):
            raise UsageError(f"'{self.bin_name}' is no name for a pair set; give a file name that ends with .bin")


@dataclass(frozen=True, kw_only=True)
class ChosenPairs:
    """The people of the verification set and, with a list, the pictures of its pairs."""

    plan: PairPlan
    people: dict[str, Person] = field(default_factory=dict)
    listed: list[tuple[str, str]] = field(default_factory=list)
    """Paths of both pictures, relative to the source."""
    issame: list[bool] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WrittenPairs:
    """What was written."""

    name: str
    num_pairs: int


def choose_pairs(source: SourceFolder, plan: PairPlan) -> ChosenPairs:
    """Choose the people that must not be in the pack.

    Raises:
        UsageError: more people are to be held out than there are.
        PairSetError: the list is damaged, or names a person or a picture that is not there.
    """
    if plan.pair_list is not None:
        return _choose_listed(source, plan, plan.pair_list)
    if not plan.num_holdout:
        return ChosenPairs(plan=plan)
    if plan.num_holdout >= len(source.people):
        raise UsageError(
            f"{plan.num_holdout} of {len(source.people)} people cannot be held out; nobody is left to train on"
        )
    drawn = counter_generator(plan.seed, _HOLDOUT_STREAM).choice(len(source.people), plan.num_holdout, replace=False)
    people = {source.people[number].name: source.people[number] for number in sorted(drawn.tolist())}
    # Too many pairs are refused before the packing, not after hours of it.
    draw_pairs([len(person.images) for person in people.values()], plan.num_pairs, seed=plan.seed)
    return ChosenPairs(plan=plan, people=people)


def write_pair_set(
    chosen: ChosenPairs,
    folder: Path,
    *,
    source: SourceFolder,
    form: ImageForm,
    workers: int,
    on_reject: Callable[[Rejected], None],
) -> WrittenPairs:
    """Write the ``.bin``; pictures that cannot be used are told to ``on_reject`` and take part in no pair.

    Raises:
        PairSetError: no pair is left.
        UsageError: too few pictures are left for the pairs.
    """
    if not chosen.people:
        return WrittenPairs(name=chosen.plan.bin_name, num_pairs=0)
    if chosen.listed:
        wanted = list(dict.fromkeys(path for pair in chosen.listed for path in pair))
    else:
        wanted = [f"{person.name}/{image}" for person in chosen.people.values() for image in person.images]
    starts = range(0, len(wanted), _IMAGES_PER_TASK)
    tasks = [wanted[start : start + _IMAGES_PER_TASK] for start in starts]
    prepare = partial(prepare_files, root=source.root, form=form)
    images: dict[str, bytes] = {}
    for task, results in zip(tasks, ordered_map(prepare, tasks, workers=workers), strict=True):
        for path, result in zip(task, results, strict=True):
            if isinstance(result, str):
                on_reject(Rejected(path, result))
            else:
                images[path] = result
    pairs, issame = _listed_pairs(chosen, images) if chosen.listed else _drawn_pairs(chosen, images)
    write_pairs(folder / chosen.plan.bin_name, [images[path] for pair in pairs for path in pair], issame)
    return WrittenPairs(name=chosen.plan.bin_name, num_pairs=len(pairs))


def _listed_pairs(chosen: ChosenPairs, images: dict[str, bytes]) -> tuple[list[tuple[str, str]], list[bool]]:
    kept = [
        (pair, same)
        for pair, same in zip(chosen.listed, chosen.issame, strict=True)
        if pair[0] in images and pair[1] in images
    ]
    if not kept:
        raise PairSetError(f"no pair of {chosen.plan.pair_list} is left: every one has a picture that cannot be used")
    return [pair for pair, _ in kept], [same for _, same in kept]


def _drawn_pairs(chosen: ChosenPairs, images: dict[str, bytes]) -> tuple[list[tuple[str, str]], list[bool]]:
    usable = [
        [path for path in (f"{person.name}/{image}" for image in person.images) if path in images]
        for person in chosen.people.values()
    ]
    pairs, issame = draw_pairs([len(paths) for paths in usable], chosen.plan.num_pairs, seed=chosen.plan.seed)
    return [(usable[a][i], usable[b][j]) for (a, i), (b, j) in pairs], issame


def _choose_listed(source: SourceFolder, plan: PairPlan, pair_list: Path) -> ChosenPairs:
    known = {person.name: person for person in source.people}
    people: dict[str, Person] = {}
    numbered: dict[str, dict[str, str]] = {}
    listed: list[tuple[str, str]] = []
    issame: list[bool] = []
    for pair in read_pair_list(pair_list):
        paths = []
        for name, picture in (pair.first, pair.second):
            person = known.get(name)
            if person is None:
                raise PairSetError(f"{pair_list}, line {pair.line}: {source.root} has no person {name!r}")
            people[name] = person
            if name not in numbered:
                numbered[name] = _names_of_pictures(person)
            paths.append(f"{name}/{_picture(numbered[name], pair, person, picture, pair_list)}")
        listed.append((paths[0], paths[1]))
        issame.append(pair.is_genuine)
    return ChosenPairs(plan=plan, people=people, listed=listed, issame=issame)


def _picture(names: dict[str, str], pair: ListedPair, person: Person, picture: str, pair_list: Path) -> str:
    key = str(int(picture)) if picture.isdigit() else picture
    if key not in names:
        raise PairSetError(
            f"{pair_list}, line {pair.line}: {person.name!r} has {len(person.images)} pictures and none is {picture!r}"
        )
    return names[key]


def _names_of_pictures(person: Person) -> dict[str, str]:
    """What a list can call a picture: its file name, or a number.

    A number is the one in LFW's file names, ``NAME_0001.jpg``; where no file is named so, the place in their order.
    """
    numbers: Sequence[tuple[str, str]] = [
        (str(int(stem.removeprefix(f"{person.name}_"))), image)
        for image in person.images
        if (stem := PurePath(image).stem).startswith(f"{person.name}_")
        and stem.removeprefix(f"{person.name}_").isdigit()
    ]
    if not numbers:
        numbers = [(str(number), image) for number, image in enumerate(person.images, start=1)]
    return {image: image for image in person.images} | dict(numbers)
