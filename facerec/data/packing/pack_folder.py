"""Own photographs, a folder per person, to a training pack and a verification set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from facerec.data.packing.pack_writer import PackProgress, PackWriter
from facerec.data.packing.pair_choice import PairPlan, choose_pairs, write_pair_set
from facerec.data.packing.prepare import ImageForm, prepare_files
from facerec.data.packing.rejects import REJECTED_FILE, Rejected, write_rejected
from facerec.data.packing.scan import Person, SourceFolder, fingerprint, scan_folder
from facerec.data.packing.work_folder import WorkFolder, work_folder
from facerec.data.parallel import count_workers, ordered_map
from facerec.errors import DataError, UsageError

__all__ = ["PackOptions", "Packed", "pack_folder"]

_IMAGES_PER_TASK = 32
_IMAGES_PER_CHECKPOINT = 2000
"""Making files durable takes some milliseconds; so much work is lost at most, and the identity under way."""

Progress = Callable[[int, int], None]
OnBadImage = Literal["fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What to make of the photographs."""

    form: ImageForm = field(default_factory=ImageForm)
    """Size and quality of the images."""
    min_images: int = 1
    """People with fewer images are left out."""
    on_bad_image: OnBadImage = "fail"
    """What happens where an image cannot be used; ``skip`` lists it in ``rejected.tsv``."""
    pairs: PairPlan = field(default_factory=PairPlan)
    """The verification set; its people are not in the pack."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was made."""

    folder: Path
    num_images: int
    num_identities: int
    bin_path: Path | None
    num_pairs: int
    num_pair_people: int
    rejected: list[Rejected]
    num_other_files: int
    """Files of the source that are no images, or lie in no person's folder."""
    resumed_at: int
    """Images that an earlier, interrupted process had packed already."""


def pack_folder(
    source_path: Path,
    out: Path,
    *,
    options: PackOptions,
    workers: int | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Pack the people in ``source_path`` into the folder ``out``, with the names of its identities and a ``.bin``.

    The people are numbered in the order of their names. The bytes depend on the photographs and the options alone. An
    interrupted process leaves its work beside ``out``, and the same call goes on from there.

    Raises:
        UsageError: ``out`` exists, or the options cannot be met.
        MissingPathError: the source is missing or unreadable.
        DataError: an image cannot be used and ``on_bad_image`` is ``fail``, nothing is left to pack, or the disk is
            full.
    """
    source = scan_folder(source_path)
    if out.resolve().is_relative_to(source.root):
        raise UsageError(f"{out} lies inside {source_path}; name a folder outside of it")
    if source.rejected and options.on_bad_image == "fail":
        raise _bad_image(source_path, source.rejected[0])
    source = _without_small(source, options.min_images)
    chosen = choose_pairs(source, options.pairs)
    people = [person for person in source.people if person.name not in chosen.people]
    processes = count_workers(workers, num_items=source.num_images)
    with work_folder(out, plan=_plan(source, options), restart=restart) as work:
        packer = _Packer(source, source_path, options, work, processes, progress)
        resumed_at = packer.num_images
        if people:
            packer.pack(people)
        made = write_pair_set(
            chosen, work.path, source=source, form=options.form, workers=processes, on_reject=packer.reject
        )
        rejected = packer.rejected
        if rejected:
            write_rejected(work.path / REJECTED_FILE, rejected)
    return Packed(
        folder=out,
        num_images=packer.num_images,
        num_identities=packer.num_identities,
        bin_path=out / made.name if made.num_pairs else None,
        num_pairs=made.num_pairs,
        num_pair_people=len(chosen.people),
        rejected=rejected,
        num_other_files=source.num_other_files,
        resumed_at=resumed_at,
    )


class _Packer:
    """Appends people to the pack in the work folder and notes how far it is."""

    def __init__(
        self,
        source: SourceFolder,
        source_path: Path,
        options: PackOptions,
        work: WorkFolder,
        workers: int,
        progress: Progress | None,
    ) -> None:
        journal: dict[str, Any] = work.journal or {}
        self._resume_at = PackProgress(**journal["pack"]) if "pack" in journal else None
        self._next_person: int = journal.get("next_person", 0)
        self.rejected = [Rejected(*row) for row in journal.get("rejected", [])] or list(source.rejected)
        self.num_images = self._resume_at.num_images if self._resume_at else 0
        self.num_identities = self._resume_at.num_identities if self._resume_at else 0
        self._source_path, self._options, self._work = source_path, options, work
        self._prepare = partial(prepare_files, root=source.root, form=options.form)
        self._workers, self._progress = workers, progress

    def reject(self, rejected: Rejected) -> None:
        """Note an image that cannot be used, or fail."""
        if self._options.on_bad_image == "fail":
            raise _bad_image(self._source_path, rejected)
        self.rejected.append(rejected)

    def pack(self, people: list[Person]) -> None:
        """Write the pack."""
        total = sum(len(person.images) for person in people)
        done = sum(len(person.images) for person in people[: self._next_person])
        at_checkpoint = done
        with PackWriter(self._work.path, resume_at=self._resume_at) as writer:
            current = -1
            for number, relative, result in self._prepared(people):
                if number != current:
                    if done - at_checkpoint >= _IMAGES_PER_CHECKPOINT:
                        self._note(writer, number)
                        at_checkpoint = done
                    writer.begin_identity(people[number].name)
                    current = number
                if isinstance(result, str):
                    self.reject(Rejected(relative, result))
                else:
                    writer.add_image(result)
                done += 1
                if self._progress is not None:
                    self._progress(done, total)
            self._note(writer, len(people))
            writer.finish(self._options.form.image_hw)
            self.num_images, self.num_identities = writer.num_images, writer.num_identities

    def _note(self, writer: PackWriter, next_person: int) -> None:
        state = writer.checkpoint()
        self._work.note(pack=asdict(state), next_person=next_person, rejected=[list(row) for row in self.rejected])

    def _prepared(self, people: list[Person]) -> Iterator[tuple[int, str, bytes | str]]:
        """For every image that is still to be packed: the number of its person, its path, and it or what is wrong."""
        places = [
            (number, f"{people[number].name}/{image}")
            for number in range(self._next_person, len(people))
            for image in people[number].images
        ]
        starts = range(0, len(places), _IMAGES_PER_TASK)
        tasks = ([relative for _, relative in places[start : start + _IMAGES_PER_TASK]] for start in starts)
        results = ordered_map(self._prepare, tasks, workers=self._workers)
        for start, images in zip(starts, results, strict=True):
            for (number, relative), image in zip(places[start : start + _IMAGES_PER_TASK], images, strict=True):
                yield number, relative, image


def _without_small(source: SourceFolder, min_images: int) -> SourceFolder:
    kept = [person for person in source.people if len(person.images) >= min_images]
    if not kept:
        raise DataError(f"nobody in {source.root} has {min_images} images; lower --min-images")
    small = [
        Rejected(person.name, f"only {len(person.images)} images, {min_images} are asked for")
        for person in source.people
        if len(person.images) < min_images
    ]
    return SourceFolder(source.root, kept, [*source.rejected, *small], source.num_other_files)


def _bad_image(source_path: Path, rejected: Rejected) -> DataError:
    return DataError(
        f"{source_path / rejected.path} cannot be packed ({rejected.reason}); remove it, or pass --on-bad-image skip "
        "to leave such images out and list them"
    )


def _plan(source: SourceFolder, options: PackOptions) -> str:
    """A digest of all that the result depends on."""
    parts = [fingerprint(source), repr(options.form), repr(options.pairs), str(options.min_images)]
    if options.pairs.pair_list is not None:
        parts.append(hashlib.sha256(options.pairs.pair_list.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
