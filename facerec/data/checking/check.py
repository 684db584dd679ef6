"""Check a pack or a pair set as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facerec.data.checking.contents import check_contents
from facerec.data.checking.decoding import decode_images, decode_records
from facerec.data.checking.findings import Findings
from facerec.data.checking.index_check import check_index
from facerec.data.checking.payloads import read_payloads
from facerec.data.checking.walk import map_file, walk_records
from facerec.data.pack_layout import find_rec
from facerec.data.pairs import read_pairs
from facerec.data.parallel import count_workers
from facerec.errors import MissingPathError, PairSetError

__all__ = ["CheckReport", "check_path"]

Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is and what there is in all."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What was checked and what was found."""

    path: Path
    kind: Literal["pack", "pair set"]
    num_records: int
    """Records of a pack, images of a pair set."""
    num_images: int
    num_identities: int | None
    num_decoded: int
    num_bytes: int
    findings: Findings
    seconds: float

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.total

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "intact": self.is_intact,
            "records": self.num_records,
            "images": self.num_images,
            "identities": self.num_identities,
            "decoded": self.num_decoded,
            "bytes": self.num_bytes,
            "seconds": round(self.seconds, 3),
            "records_per_s": round(self.num_records / max(self.seconds, 1e-9), 1),
            "num_findings": self.findings.total,
            "findings_by_kind": dict(self.findings.counts),
            "findings": [finding.as_json() for finding in self.findings.kept],
            "notes": self.findings.notes,
        }


def check_path(
    path: Path, *, fast: bool = False, workers: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Check a pack (its folder or ``train.rec``) or a ``.bin``; ``fast`` decodes no image.

    Of a pack every record is looked at from the first byte to the last, without trusting the index: magic, length,
    continuation flags, padding; then the index, the header, the identity records, ``property`` and the labels against
    each other; then every image is decoded.

    Raises:
        MissingPathError: there is no such file.
        UsageError: the number of workers is negative.
    """
    if not path.exists():
        raise MissingPathError(f"{path} does not exist; name a pack's folder, its train.rec, or a .bin")
    processes = count_workers(workers)
    if path.is_file() and path.suffix == ".bin":
        return _check_pairs(path, fast=fast, workers=processes, progress=progress)
    return _check_pack(find_rec(path), fast=fast, workers=processes, progress=progress)


def _check_pack(rec_path: Path, *, fast: bool, workers: int, progress: Progress | None) -> CheckReport:
    started_s = time.monotonic()
    findings = Findings()
    view = map_file(rec_path)
    walk = walk_records(view, findings, progress=_step("bytes", progress))
    if not len(view):
        findings.add("length", f"{rec_path.name} is empty")
    indexed = check_index(rec_path.with_suffix(".idx"), walk, size=len(view), findings=findings)
    payloads = read_payloads(view, walk, indexed, findings)
    contents = check_contents(rec_path, payloads, indexed, findings)
    num_decoded = 0
    if not fast:
        keys, offsets = payloads.keys[contents.images], payloads.offsets[contents.images]
        places = list(zip(keys.tolist(), offsets.tolist(), strict=True))
        decode_records(
            rec_path,
            places,
            image_hw=contents.image_hw,
            workers=workers,
            findings=findings,
            progress=_step("images decoded", progress),
        )
        num_decoded = len(places)
    return CheckReport(
        path=rec_path,
        kind="pack",
        num_records=len(walk.starts),
        num_images=len(contents.images),
        num_identities=contents.num_identities,
        num_decoded=num_decoded,
        num_bytes=len(view),
        findings=findings,
        seconds=time.monotonic() - started_s,
    )


def _check_pairs(path: Path, *, fast: bool, workers: int, progress: Progress | None) -> CheckReport:
    started_s = time.monotonic()
    findings = Findings()
    images: tuple[bytes, ...] = ()
    num_decoded = 0
    try:
        pairs = read_pairs(path)
    except PairSetError as error:
        findings.add("pairs", str(error))
    else:
        images = pairs.images
        for pair, same in enumerate(pairs.issame.tolist()):
            if not same and images[2 * pair] == images[2 * pair + 1]:
                findings.add("pairs", f"pair {pair} is called an impostor pair, but both images are the same bytes",
                             key=2 * pair)  # fmt: skip
        num_same = sum(images[2 * pair] == images[2 * pair + 1] for pair, same in enumerate(pairs.issame) if same)
        if num_same:
            findings.notes.append(f"{num_same} genuine pairs compare an image with itself")
        if not fast:
            distinct = list(dict.fromkeys(images))
            faults = dict(decode_images(distinct, workers=workers, progress=_step("images decoded", progress)))
            problems = {distinct[place]: problem for place, problem in faults.items()}
            for number, image in enumerate(images):
                if image in problems:
                    findings.add("image", f"image {number} of pair {number // 2}: {problems[image]}", key=number)
            num_decoded = len(distinct)
    return CheckReport(
        path=path,
        kind="pair set",
        num_records=len(images),
        num_images=len(images),
        num_identities=None,
        num_decoded=num_decoded,
        num_bytes=path.stat().st_size,
        findings=findings,
        seconds=time.monotonic() - started_s,
    )


def _step(name: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
