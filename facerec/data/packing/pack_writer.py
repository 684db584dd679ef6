"""Writing a training pack identity by identity, so that an interrupted writing can go on.

The layout is InsightFace's: record 0 is a header [N + 1, N + 1 + C], the images are the keys 1 to N, and C identity
records with the spans of their images follow. N and C are known only at the end; the header has a fixed length, so its
place is kept free and filled then.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from facerec.data.image_record import build_image_record
from facerec.data.packing.identity_names import HEADING, identity_line, read_identity_lines
from facerec.data.record_writer import frame_record
from facerec.errors import DataError

__all__ = ["FILES", "IDENTITIES_FILE", "PackProgress", "PackWriter"]

IDENTITIES_FILE = "identities.tsv"
FILES = ("train.rec", "train.idx", "property", IDENTITIES_FILE)


@dataclass(frozen=True, kw_only=True)
class PackProgress:
    """How far a pack is written; all it takes to go on from there."""

    rec_bytes: int
    idx_bytes: int
    names_bytes: int
    num_images: int
    num_identities: int


class PackWriter:
    """Appends identities to a pack in a folder that nobody else uses yet.

    ``begin_identity``, ``add_image`` …, and ``finish`` at the end. An identity without images leaves no trace. Between
    two identities, `checkpoint` makes all of it durable and says how far it is; a writer that is opened with that
    goes on from there, whatever was appended afterwards. The folder must be renamed to its final name by the caller.
    """

    def __init__(self, folder: Path, *, resume_at: PackProgress | None = None) -> None:
        """Open the files; without ``resume_at`` they must not exist."""
        self._folder = folder
        mode = "xb" if resume_at is None else "r+b"
        self._rec: IO[bytes] = open(folder / "train.rec", mode)  # noqa: SIM115 - closed by close()
        self._idx: IO[bytes] = open(folder / "train.idx", mode)  # noqa: SIM115
        self._names: IO[bytes] = open(folder / IDENTITIES_FILE, mode)  # noqa: SIM115
        self._spans = array("q")
        """The number of images of every identity."""
        self.num_images = 0
        self._name: str | None = None
        self._count = 0
        if resume_at is None:
            self._offset = 0
            self._names.write(HEADING)
            self._append(0, _header(0, 0))
        else:
            self._go_on(resume_at)

    @property
    def num_identities(self) -> int:
        """Identities with at least one image, the one under way included."""
        return len(self._spans) + (self._count > 0)

    def begin_identity(self, name: str) -> None:
        """What follows are the images of the next identity."""
        self._end_identity()
        self._name = name

    def add_image(self, image: bytes) -> int:
        """Append an encoded image of the identity; returns its key.

        Raises:
            DataError: the image or the number of identities does not fit into the format.
        """
        assert self._name is not None, "an identity begins before its images"
        self.num_images += 1
        self._count += 1
        payload = build_image_record(image, label=len(self._spans), record_id=self.num_images)
        self._append(self.num_images, payload)
        return self.num_images

    def checkpoint(self) -> PackProgress:
        """End the identity, make everything durable, and say how far the pack is."""
        self._end_identity()
        for stream in (self._rec, self._idx, self._names):
            stream.flush()
            os.fsync(stream.fileno())
        return PackProgress(
            rec_bytes=self._offset,
            idx_bytes=self._idx.tell(),
            names_bytes=self._names.tell(),
            num_images=self.num_images,
            num_identities=len(self._spans),
        )

    def finish(self, image_hw: Sequence[int]) -> None:
        """Write the identity records, the header and ``property``.

        Raises:
            DataError: there are no images.
        """
        self._end_identity()
        if not self.num_images:
            raise DataError(f"no image was left for {self._folder}; check the source and its list of rejected images")
        first = 1
        end = self.num_images + 1
        for label, count in enumerate(self._spans):
            span = [first, first + count]
            self._append(end + label, build_image_record(b"", label=span, record_id=end + label))
            first += count
        self._rec.seek(0)
        self._rec.write(frame_record(_header(self.num_images, len(self._spans))))
        height, width = image_hw
        (self._folder / "property").write_text(f"{len(self._spans)},{height},{width}\n", encoding="ascii")
        self.close()

    def close(self) -> None:
        """Close the files as they are; safe to call again."""
        for stream in (self._rec, self._idx, self._names):
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            # What is still in the buffers cannot be written either; the first error is the one to report.
            if kind is None:
                raise

    def _append(self, key: int, payload: bytes) -> None:
        framed = frame_record(payload)
        self._rec.write(framed)
        self._idx.write(b"%d\t%d\n" % (key, self._offset))
        self._offset += len(framed)

    def _end_identity(self) -> None:
        if self._count:
            assert self._name is not None
            self._names.write(identity_line(len(self._spans), self._count, self._name))
            self._spans.append(self._count)
        self._name, self._count = None, 0

    def _go_on(self, at: PackProgress) -> None:
        lengths = (at.rec_bytes, at.idx_bytes, at.names_bytes)
        for stream, length in zip((self._rec, self._idx, self._names), lengths, strict=True):
            if os.fstat(stream.fileno()).st_size < length:
                self.close()
                raise DataError(f"{self._folder} has lost a part of what was written; remove it and start again")
            stream.truncate(length)
        rows = read_identity_lines(self._names.read(), what=str(self._folder / IDENTITIES_FILE))
        self._spans.extend(row.num_images for row in rows)
        for stream in (self._rec, self._idx, self._names):
            stream.seek(0, os.SEEK_END)
        self._offset, self.num_images = at.rec_bytes, at.num_images
        if (len(self._spans), sum(self._spans)) != (at.num_identities, at.num_images):
            self.close()
            raise DataError(f"{self._folder} contradicts itself; remove it and start again")


def _header(num_images: int, num_identities: int) -> bytes:
    return build_image_record(b"", label=[num_images + 1, num_images + 1 + num_identities])
