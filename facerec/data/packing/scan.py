"""A folder of photographs: one folder per person, in an order that does not depend on the file system."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from facerec.data.packing.rejects import Rejected
from facerec.errors import DataError, MissingPathError

__all__ = ["IMAGE_SUFFIXES", "Person", "SourceFolder", "fingerprint", "open_inside", "scan_folder"]

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".pnm", ".pbm"))


@dataclass(frozen=True, slots=True)
class Person:
    """One person's folder."""

    name: str
    images: list[str]
    """Paths relative to the person's folder, sorted."""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """What a folder of people holds."""

    root: Path
    """Absolute, without links."""
    people: list[Person]
    """Sorted by name; every one has at least one image."""
    rejected: list[Rejected] = field(default_factory=list)
    """Images that cannot be used for where they lie."""
    num_other_files: int = 0
    """Files that are no images by their names, or lie in no person's folder."""

    @property
    def num_images(self) -> int:
        """Images of all people."""
        return sum(len(person.images) for person in self.people)


def scan_folder(folder: Path) -> SourceFolder:
    """List the people and their images, without opening a file.

    A person is a folder directly under ``folder``; deeper folders belong to that person. Names that begin with a dot
    are passed over. A link to a folder, and a link that leads out of ``folder``, is rejected and never followed.

    Raises:
        MissingPathError: the folder does not exist or cannot be read.
        DataError: it holds no images of people.
    """
    if not folder.is_dir():
        raise MissingPathError(f"{folder} is no folder; name one with a folder of images for each person")
    source = SourceFolder(folder.resolve(), [])
    num_others = 0
    for entry in _entries(source.root):
        # Unlike the entry's own methods, this one says no where a link leads in a circle.
        if entry.is_symlink() and os.path.isdir(entry.path):
            source.rejected.append(Rejected(entry.name, "a link to a folder, which is not followed"))
        elif entry.is_dir(follow_symlinks=False):
            images: list[str] = []
            num_others += _list_images(source, Path(entry.path), images)
            if images:
                source.people.append(Person(entry.name, images))
        else:
            num_others += 1
    if not source.people:
        raise DataError(f"{folder} holds no images of people; it needs one folder of images for each person")
    return SourceFolder(source.root, source.people, source.rejected, num_others)


def _list_images(source: SourceFolder, person: Path, images: list[str]) -> int:
    """Append the images under a person's folder; returns the number of other files."""
    num_others = 0
    pending = [person]
    while pending:
        for entry in _entries(pending.pop()):
            relative = os.path.relpath(entry.path, person)
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            elif Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
                num_others += 1
            elif entry.is_symlink() and not _real(entry.path).is_relative_to(source.root):
                source.rejected.append(Rejected(f"{person.name}/{relative}", _OUTSIDE))
            else:
                images.append(relative)
    images.sort()
    return num_others


_OUTSIDE = "a link that leads out of the folder, which is not followed"


def _real(path: str | Path) -> Path:
    # `Path.resolve` fails where links lead in a circle, up to Python 3.12.
    return Path(os.path.realpath(path))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise MissingPathError(f"folder {folder} cannot be read ({error.strerror}); check its permissions") from error


def open_inside(root: Path, relative: str, *, max_bytes: int) -> bytes:
    """The content of a regular file under ``root``, wherever links lead in the meantime.

    Raises:
        DataError: the path leads out of ``root``, is no regular file, is too long or cannot be read; the message is
            the reason alone.
    """
    path = _real(root / relative)
    if not path.is_relative_to(root):
        raise DataError(_OUTSIDE)
    try:
        # A pipe would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not path.is_file():
                raise DataError("no regular file")
            if (size := os.fstat(stream.fileno()).st_size) > max_bytes:
                raise DataError(f"too long: {size} bytes, at most {max_bytes} are read")
            return stream.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error


def fingerprint(source: SourceFolder) -> str:
    """A digest of the names, lengths and dates of all images; it changes when one of them does."""
    digest = hashlib.sha256()
    for person in source.people:
        for image in person.images:
            path = source.root / person.name / image
            try:
                status = path.stat()
                facts = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:
                facts = "unreadable"
            digest.update(os.fsencode(f"{person.name}\0{image}\0{facts}\0"))
    return digest.hexdigest()
