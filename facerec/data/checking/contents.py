"""Whether the records of a pack agree with each other: header, identity records, labels and ``property``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facerec.data.checking.findings import Findings
from facerec.data.checking.index_check import Indexed
from facerec.data.checking.payloads import Payloads
from facerec.data.pack_layout import EXACT_FLOAT, Property, are_classes, read_property
from facerec.errors import DataError

__all__ = ["Contents", "check_contents"]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What the pack holds."""

    layout: str
    images: NDArray[np.int64]
    """Places of the image records among the payloads."""
    num_identities: int
    image_hw: tuple[int, int] | None


def check_contents(rec_path: Path, payloads: Payloads, indexed: Indexed, findings: Findings) -> Contents:
    """Find the images, and note what contradicts what."""
    told = _property(rec_path.with_name("property"), findings)
    image_hw = told.image_hw if told else None
    if not len(payloads.keys):
        return Contents("unknown", np.zeros(0, dtype=np.int64), 0, image_hw)
    starts_at_first = payloads.keys[0] == indexed.first_key
    if not starts_at_first:
        findings.add("header", f"record {indexed.first_key}, where a pack has its header, cannot be read",
                     key=indexed.first_key)  # fmt: skip
    is_header = starts_at_first and payloads.flags[0] >= 2 and not payloads.has_image[0]
    # Without a readable header, records without an image are those of identities.
    has_identities = is_header or bool((~payloads.has_image & (payloads.flags == 2)).any())
    if has_identities:
        end = _image_end(payloads, indexed, findings) if is_header else _first_identity(payloads)
        images, identities = _split(payloads, end, is_header=is_header)
    else:
        images, identities = np.arange(len(payloads.keys)), np.zeros(0, dtype=np.int64)
    for place in images[~payloads.has_image[images]].tolist():
        findings.add("image", f"{payloads.where(place)} holds no image", **_at(payloads, place))
    images = images[payloads.has_image[images]]
    num_classes = told.num_classes if told else len(identities) or None
    _check_labels(payloads, images, num_classes, findings)
    _check_spans(payloads, images, identities, findings)
    _check_counts(told, len(images), len(identities), rec_path, findings)
    num_identities = num_classes or len(np.unique(payloads.labels[images]))
    return Contents("header" if has_identities else "flat", images, num_identities, image_hw)


def _at(payloads: Payloads, place: int) -> dict[str, int]:
    return {"key": int(payloads.keys[place]), "offset": int(payloads.offsets[place])}


def _property(path: Path, findings: Findings) -> Property | None:
    try:
        told = read_property(path)
    except DataError as error:
        findings.add("property", str(error))
        return None
    if told is None:
        findings.notes.append(f"there is no {path.name}; the number of identities comes from the records")
    return told


def _image_end(payloads: Payloads, indexed: Indexed, findings: Findings) -> int:
    """The first key behind the images, as the header says, or as the records are where it is wrong."""
    end, total = float(payloads.labels[0]), float(payloads.second_labels[0])
    last_key = int(payloads.keys[-1])
    found_end = _first_identity(payloads)
    if max(found_end, last_key) >= EXACT_FLOAT:
        return found_end
    if end != found_end:
        message = f"the header announces images with the keys 1 to {end - 1:g}, but they end at {found_end - 1}"
        findings.add("header", message, **_at(payloads, 0))
    if total != last_key + 1 and not (total == end and last_key + 1 == found_end):
        message = f"the header announces records up to key {total - 1:g}, but the last one is {last_key}"
        findings.add("header", message, **_at(payloads, 0))
    if indexed.first_key == 0 and indexed.num_keys != last_key + 1:
        findings.add("header", f"keys 0 to {last_key} should be there, but the index has {indexed.num_keys} of them")
    return found_end


def _first_identity(payloads: Payloads) -> int:
    """The key behind the last image."""
    with_image = np.flatnonzero(payloads.has_image)
    return int(payloads.keys[with_image[-1]]) + 1 if len(with_image) else int(payloads.keys[0]) + 1


def _split(payloads: Payloads, end: int, *, is_header: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first = 1 if is_header else 0
    stop = int(np.searchsorted(payloads.keys, end))
    return np.arange(first, stop), np.arange(stop, len(payloads.keys))


def _check_labels(payloads: Payloads, images: NDArray[np.int64], num_classes: int | None, findings: Findings) -> None:
    labels = payloads.labels[images]
    good = are_classes(labels, num_classes=num_classes)
    allowed = "a whole number from 0" if num_classes is None else f"one of 0 to {num_classes - 1}"
    for place, label in zip(images[~good].tolist(), labels[~good].tolist(), strict=True):
        findings.add("label", f"{payloads.where(place)} has label {label:g}, not {allowed}", **_at(payloads, place))


def _check_spans(
    payloads: Payloads, images: NDArray[np.int64], identities: NDArray[np.int64], findings: Findings
) -> None:
    """Every identity record names a span of keys; the spans follow each other and have one label each."""
    image_keys, labels = payloads.keys[images], payloads.labels[images]
    if not len(identities) or (len(image_keys) and image_keys[-1] >= EXACT_FLOAT):
        return
    begins, ends = payloads.labels[identities].astype(float), payloads.second_labels[identities].astype(float)
    last = float(image_keys[-1]) + 1 if len(image_keys) else 1.0
    good = (payloads.flags[identities] == 2) & (begins >= 1) & (begins <= ends) & (ends <= last)
    first_label, last_label = (
        np.searchsorted(image_keys, np.nan_to_num(begins)), np.searchsorted(image_keys, np.nan_to_num(ends)) - 1,
    )  # fmt: skip
    changes = np.concatenate([[0], np.cumsum(labels[1:] != labels[:-1])]) if len(labels) else np.zeros(1)
    for row, place in enumerate(identities.tolist()):
        span = f"{payloads.where(place)}: the identity's span [{begins[row]:g}, {ends[row]:g})"
        if not good[row]:
            findings.add("identity", f"{span} is no range of image keys", **_at(payloads, place))
        elif first_label[row] < last_label[row] and changes[first_label[row]] != changes[last_label[row]]:
            findings.add("identity", f"{span} holds images with different labels", **_at(payloads, place))
    covered = float((ends - begins)[good].sum())
    if good.all() and covered != last - 1:
        findings.add("identity", f"the spans of the identities cover {covered:g} of {last - 1:g} image keys")


def _check_counts(
    told: Property | None, num_images: int, num_identities: int, rec_path: Path, findings: Findings
) -> None:
    if told is None:
        return
    if num_identities and told.num_classes != num_identities:
        findings.add(
            "property", f"property says {told.num_classes} identities, {rec_path.name} has {num_identities} of them"
        )
    if told.num_images is not None and told.num_images != num_images:
        findings.add("property", f"property says {told.num_images} images, {rec_path.name} has {num_images} of them")
