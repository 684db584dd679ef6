"""What fuzzing has found, each with the smallest input that shows it."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from facerec.data.decode import decode_image
from facerec.data.record_writer import frame_record
from facerec.data.recordio import RecordReader
from facerec.errors import RecordError
from tests.packs import draw, encode_png


def test_both_ways_of_reading_judge_an_index_alike(tmp_path: Path) -> None:
    # Records at places that are no multiple of 4, as no writer puts them: only a mapped file was refused.
    record = frame_record(b"payload!")
    (tmp_path / "train.rec").write_bytes(bytes(1) + record + record)
    (tmp_path / "train.idx").write_text(f"0\t1\n1\t{1 + len(record)}\n")
    for io in ("mmap", "pread"):
        with pytest.raises(RecordError, match="belongs to another file"):
            RecordReader(tmp_path / "train.rec", io=io)


def animated_png() -> bytes:
    """A picture that calls itself an animation of no frames."""
    png = encode_png(draw(1, 1))
    body = b"acTL" + struct.pack(">II", 0, 0)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    after_header = 8 + 25
    return png[:after_header] + chunk + png[after_header:]


def test_a_senseless_animation_is_its_picture_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode_image(animated_png(), upright=True)
    np.testing.assert_array_equal(pixels, draw(1, 1))


def test_threads_that_decode_at_the_same_time_leave_warnings_as_they_were() -> None:
    data = animated_png()
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode_image(data) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
