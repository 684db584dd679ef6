"""Two thousand kinds of damage to a pack: each ends in a named error or in the right record (promises D1, S2)."""

from __future__ import annotations

import random
import resource
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import simplejpeg

from facerec.config.schema import AugmentConfig
from facerec.data.dataset import FaceDataset
from facerec.data.decode import decode_image
from facerec.data.image_record import build_image_record, parse_image_record
from facerec.data.pack import FacePack
from facerec.data.record_writer import MAGIC_BYTES
from facerec.data.recordio import RecordReader, RecordWriter
from facerec.data.sampler import BatchRequest
from facerec.errors import DataError, FacerecError, ImageError, RecordError
from tests.packs import draw, encode_png

Edit = Callable[["Case"], None]
NUM_RECORDS = 24
SECONDS_FOR_A_CASE = 20.0
"""Far more than any case takes, on a machine that does much else."""


@dataclass(kw_only=True)
class Healthy:
    """The files before any damage."""

    rec: bytes
    idx: bytes
    payloads: list[bytes]
    spans: list[tuple[int, int]]
    """Where each record begins and where the next one does."""


@dataclass(kw_only=True)
class Case:
    """One damage in the making."""

    healthy: Healthy
    rng: random.Random
    rec: bytearray
    idx: bytearray
    touched: set[int]
    """The keys whose records were changed."""
    shows_in_pixels: bool = False
    """Whether content was changed, which has no checksum, and not only what surrounds it."""
    may_refuse_all: bool = False
    """Whether the pack as a whole may be refused."""


def picture(number: int) -> bytes:
    pixels = draw(number, number, side=24)
    if number % 3 == 0:
        return encode_png(pixels)
    comment = b"\xff\xfe\x00\x0e" + MAGIC_BYTES * 3  # A comment segment that cuts the record into parts.
    jpeg = simplejpeg.encode_jpeg(pixels, quality=80 + number % 10)
    return jpeg[:2] + comment + jpeg[2:] if number % 4 == 1 else jpeg


def make_healthy(folder: Path) -> Healthy:
    payloads = [
        build_image_record(picture(number), label=[number, 1.0] if number % 5 == 2 else number, record_id=number)
        for number in range(NUM_RECORDS)
    ]
    with RecordWriter(folder / "healthy.rec") as writer:
        starts = [writer.write(key, payload) for key, payload in enumerate(payloads)]
    rec = (folder / "healthy.rec").read_bytes()
    spans = list(zip(starts, [*starts[1:], len(rec)], strict=True))
    return Healthy(rec=rec, idx=(folder / "healthy.idx").read_bytes(), payloads=payloads, spans=spans)


def part_headers(case: Case, key: int) -> list[int]:
    """Where the parts of a record have their headers."""
    begin, end = case.healthy.spans[key]
    places = []
    while begin < end:
        places.append(begin)
        length = int.from_bytes(case.healthy.rec[begin + 4 : begin + 8], "little") & (1 << 29) - 1
        begin += 8 + (length + 3) // 4 * 4
    return places


def choose(case: Case) -> tuple[int, int, int]:
    """A record that is touched from now on: its key, and its span."""
    key = case.rng.randrange(NUM_RECORDS)
    case.touched.add(key)
    return key, *case.healthy.spans[key]


def flip_bit_of_a_header(case: Case) -> None:
    key, _, _ = choose(case)
    case.rec[case.rng.choice(part_headers(case, key)) + case.rng.randrange(8)] ^= 1 << case.rng.randrange(8)


def change_a_length(case: Case) -> None:
    key, _, _ = choose(case)
    place = case.rng.choice(part_headers(case, key)) + 4
    word = int.from_bytes(case.rec[place : place + 4], "little")
    length = max(
        0, (word & (1 << 29) - 1) + case.rng.choice((-400, -40, -8, -4, -1, 1, 4, 8, 40, 400, 1 << 20, 1 << 28))
    )
    case.rec[place : place + 4] = (word >> 29 << 29 | length & (1 << 29) - 1).to_bytes(4, "little")


def change_a_continuation_flag(case: Case) -> None:
    key, _, _ = choose(case)
    case.rec[case.rng.choice(part_headers(case, key)) + 7] ^= case.rng.randrange(1, 8) << 5


def fill_padding(case: Case) -> None:
    _, _, end = choose(case)
    case.rec[end - case.rng.randrange(1, 4)] ^= 1 << case.rng.randrange(8)
    case.shows_in_pixels = True  # Where the record has less padding, its last byte is content.


def cut_off(case: Case) -> None:
    length = case.rng.randrange(len(case.rec))
    del case.rec[length:]
    case.touched |= {key for key, (_, end) in enumerate(case.healthy.spans) if end > length}
    case.may_refuse_all = True


def flip_bit_of_an_image_header(case: Case) -> None:
    _, begin, _ = choose(case)
    case.rec[begin + 8 + case.rng.randrange(24)] ^= 1 << case.rng.randrange(8)


def flip_bits_of_content(case: Case) -> None:
    _, begin, end = choose(case)
    for _ in range(case.rng.randrange(1, 6)):
        case.rec[case.rng.randrange(begin + 8, end)] ^= 1 << case.rng.randrange(8)
    case.shows_in_pixels = True


def zero_a_sector(case: Case) -> None:
    begin = case.rng.randrange(len(case.rec))
    end = min(len(case.rec), begin + case.rng.choice((4, 64, 512)))
    case.rec[begin:end] = bytes(end - begin)
    case.touched |= {key for key, (first, last) in enumerate(case.healthy.spans) if first < end and begin < last}
    case.shows_in_pixels = case.may_refuse_all = True


def move_what_follows(case: Case) -> None:
    place = case.rng.randrange(len(case.rec))
    if case.rng.random() < 0.5:
        case.rec[place:place] = case.rng.randbytes(case.rng.choice((1, 4, 12, 64)))
    else:
        del case.rec[place : place + case.rng.choice((1, 4, 12, 64))]
    case.touched |= {key for key, (_, end) in enumerate(case.healthy.spans) if end > place}
    case.shows_in_pixels = case.may_refuse_all = True


def change_a_digit_of_the_index(case: Case) -> None:
    places = [place for place, letter in enumerate(case.idx) if 48 <= letter < 58]
    case.idx[case.rng.choice(places)] = case.rng.randrange(48, 58)
    case.may_refuse_all = True


def flip_bit_of_the_index(case: Case) -> None:
    case.idx[case.rng.randrange(len(case.idx))] ^= 1 << case.rng.randrange(8)
    case.may_refuse_all = True


def change_lines_of_the_index(case: Case) -> None:
    lines = bytes(case.idx).splitlines(keepends=True)
    place = case.rng.randrange(len(lines))
    kind = case.rng.choice(("leave out", "double", "swap", "junk", "cut off", "empty"))
    if kind == "leave out":
        del lines[place]
    elif kind == "double":
        lines.insert(case.rng.randrange(len(lines)), lines[place])
    elif kind == "swap":
        case.rng.shuffle(lines)
    elif kind == "junk":
        lines.insert(place, case.rng.choice((b"\n", b"x\t4\n", b"7\n", b"-1\t0\n", b"\xff\xfe\0\n", b"3\t4\t5\n")))
    content = b"".join(lines)
    if kind == "cut off":
        content = content[: case.rng.randrange(len(content))]
    case.idx[:] = b"" if kind == "empty" else content
    case.may_refuse_all = True


EDITS: tuple[Edit, ...] = (
    flip_bit_of_a_header,
    change_a_length,
    change_a_continuation_flag,
    fill_padding,
    cut_off,
    flip_bit_of_an_image_header,
    flip_bits_of_content,
    zero_a_sector,
    move_what_follows,
    change_a_digit_of_the_index,
    flip_bit_of_the_index,
    change_lines_of_the_index,
)


def attempt(read: Callable[[], Any]) -> Any:
    """What ``read`` gives, or the error that users are meant to see; any other error fails the test."""
    try:
        return read()
    except FacerecError as error:
        return error


class Judge:
    """Compares what is read of damaged files with the healthy ones."""

    def __init__(self, healthy: Healthy) -> None:
        self.healthy = healthy
        self.outcomes: Counter[str] = Counter()
        self._pictures = [self._decode(payload) for payload in healthy.payloads]

    @staticmethod
    def _decode(payload: bytes) -> Any:
        return attempt(lambda: decode_image(parse_image_record(payload).image, image_hw=(24, 24), what="record"))

    def judge(self, case: Case, folder: Path, io: Literal["mmap", "pread"]) -> None:
        reader = attempt(lambda: RecordReader(folder / "train.rec", io=io))
        if isinstance(reader, FacerecError):
            assert case.may_refuse_all, f"one damaged record refuses all: {reader}"
            assert str(folder) in str(reader)
            if isinstance(reader, RecordError):
                assert reader.key is not None
                assert reader.offset is not None
            self.outcomes["refused"] += 1
            return
        with reader:
            keys = reader.keys.tolist()
            faults: dict[int, RecordError] = {}
            batch = reader.read_batch(reader.keys, faults=faults)
            for row, key in enumerate(keys):
                payload = attempt(lambda: reader.read(key))  # noqa: B023 - called at once
                record = attempt(lambda: reader.read_image(key))  # noqa: B023
                self._judge_record(case, reader, key, payload)
                # Three ways to read, one answer.
                if isinstance(record, RecordError):
                    assert str(record) == str(faults[row])
                    assert (record.key, record.offset) == (key, reader.offset_of(key))
                    continue
                expected = parse_image_record(payload)
                assert row not in faults
                assert bytes(record.image) == bytes(batch.images[row]) == bytes(expected.image)
                assert (record.flag, record.record_id) == (expected.flag, expected.record_id)
                assert (
                    np.array([record.label, batch.labels[row]], np.float32).tobytes()
                    == np.array([expected.label] * 2, np.float32).tobytes()
                )

    def _judge_record(self, case: Case, reader: RecordReader, key: int, payload: Any) -> None:
        healthy = self.healthy.payloads
        if isinstance(payload, RecordError):
            assert (payload.key, payload.offset) == (key, reader.offset_of(key))
            assert f"record {key} at byte {payload.offset} " in str(payload)
            is_as_indexed = key < NUM_RECORDS and payload.offset == self.healthy.spans[key][0]
            assert key in case.touched or not is_as_indexed, f"a healthy record is refused: {payload}"
            self.outcomes["reported"] += 1
            return
        if key not in case.touched:
            # Under a key that the index has wrong, any record that is whole is the right one.
            assert payload in (healthy if key >= NUM_RECORDS or bytes(case.idx) != self.healthy.idx else [healthy[key]])
            self.outcomes["right"] += 1
            return
        self._judge_touched(case, key, payload)

    def _judge_touched(self, case: Case, key: int, payload: bytes) -> None:
        image = self._decode(payload)
        if isinstance(image, (ImageError, RecordError)):
            self.outcomes["no picture"] += 1
        elif not case.shows_in_pixels:
            np.testing.assert_array_equal(image, self._pictures[key])
            self.outcomes["right"] += 1
        else:
            assert image.shape == (24, 24, 3)
            self.outcomes["content changed"] += 1


def run_cases(seeds: range, folder: Path) -> Counter[str]:
    healthy = make_healthy(folder)
    judge = Judge(healthy)
    for seed in seeds:
        rng = random.Random(seed)
        case = Case(healthy=healthy, rng=rng, rec=bytearray(healthy.rec), idx=bytearray(healthy.idx), touched=set())
        edit = EDITS[seed % len(EDITS)]
        edit(case)
        (folder / "train.rec").write_bytes(case.rec)
        if not (folder / "train.idx").exists() or (folder / "train.idx").read_bytes() != case.idx:
            (folder / "train.idx").write_bytes(case.idx)
        began = time.monotonic()
        try:
            judge.judge(case, folder, "mmap" if rng.random() < 0.5 else "pread")
        except BaseException as error:
            error.add_note(f"case {seed}: {edit.__name__}, touched {sorted(case.touched)}")
            raise
        assert time.monotonic() - began < SECONDS_FOR_A_CASE, f"case {seed} hangs"
    return judge.outcomes


def test_three_hundred_damages_end_in_a_named_error_or_the_right_record(tmp_path: Path) -> None:
    outcomes = run_cases(range(300), tmp_path)
    assert min(outcomes[kind] for kind in ("refused", "reported", "right", "no picture")) > 20, outcomes


@pytest.mark.slow
def test_two_thousand_damages_end_in_a_named_error_or_the_right_record(tmp_path: Path) -> None:
    outcomes = run_cases(range(1000, 3000), tmp_path)
    assert min(outcomes[kind] for kind in ("refused", "reported", "right", "no picture")) > 100, outcomes


def test_the_judge_notices_a_wrong_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RecordReader._read_at
    monkeypatch.setattr(RecordReader, "_read_at", lambda self, row: wrong(self, (row + 1) % len(self)))
    with pytest.raises(AssertionError):
        run_cases(range(24), tmp_path)


def test_a_jpeg_that_claims_twenty_thousand_pixels_a_side_costs_no_memory(tmp_path: Path) -> None:
    jpeg = bytearray(simplejpeg.encode_jpeg(draw(1, 1, side=32), quality=90))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = (20_000).to_bytes(2, "big") * 2
    with RecordWriter(tmp_path / "train.rec") as writer:
        writer.write(0, build_image_record(bytes(jpeg), label=0))
        writer.write(1, build_image_record(simplejpeg.encode_jpeg(draw(1, 1, side=32)), label=0))
    dataset = FaceDataset(FacePack.open(tmp_path), image_hw=(32, 32), augment=AugmentConfig(), seed=1)
    dataset.__getitems__(BatchRequest(0, np.array([1])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"record 0 at byte 0 is too large: 20000 x 20000 pixels"):
            dataset.__getitems__(BatchRequest(0, np.array([1, 0])))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024, "kilobytes"


def test_a_damaged_record_in_a_batch_leaves_the_other_rows_as_they_are(tmp_path: Path) -> None:
    healthy = make_healthy(tmp_path)
    (tmp_path / "train.idx").write_bytes(healthy.idx)
    content = bytearray(healthy.rec)
    for key in (3, 11):
        content[healthy.spans[key][0]] ^= 1
    (tmp_path / "train.rec").write_bytes(content)
    pack = FacePack.open(tmp_path)
    faults: dict[int, DataError] = {}
    faces = pack.read_faces(np.arange(NUM_RECORDS), faults=faults)
    assert sorted(faults) == [3, 11]
    for key in set(range(NUM_RECORDS)) - set(faults):
        expected = parse_image_record(healthy.payloads[key])
        assert bytes(faces.images[key]) == bytes(expected.image)
        assert faces.classes[key] == expected.label
