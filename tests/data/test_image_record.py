"""The header of an image record and the labels behind it."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from facerec.data.image_record import build_image_record, parse_image_record
from facerec.errors import DataError, RecordError


def test_a_number_stands_in_the_header_and_a_list_behind_it() -> None:
    assert build_image_record(b"jpeg", label=3, record_id=7) == struct.pack("<IfQQ", 0, 3.0, 7, 0) + b"jpeg"
    expected = struct.pack("<IfQQ2f", 2, 0.0, 7, 0, 3.0, 0.5) + b"jpeg"
    assert build_image_record(b"jpeg", label=[3.0, 0.5], record_id=7) == expected


@pytest.mark.parametrize("label", [0.0, 5.0, [4.0], [3.0, 0.5, -1.0]])
def test_what_is_built_is_parsed(label: float | list[float]) -> None:
    record = parse_image_record(build_image_record(b"jpeg", label=label, record_id=9))
    labels = label if isinstance(label, list) else [label]
    assert record.label == labels[0]
    np.testing.assert_array_equal(record.labels, np.array(labels, dtype=np.float32))
    assert (record.record_id, record.record_id2, record.image) == (9, 0, b"jpeg")


def test_labels_that_float32_cannot_hold_and_records_that_are_cut_off_are_refused() -> None:
    with pytest.raises(DataError, match="16777217 is not exact"):
        build_image_record(b"", label=2**24 + 1)
    with pytest.raises(RecordError, match="needs 32 bytes, but it holds 31"):
        parse_image_record(build_image_record(b"", label=[1.0, 2.0])[:-1])
