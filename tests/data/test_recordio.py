"""Record files: mxnet's own files are read and written again byte for byte, and damage is reported, never returned."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facerec.data.image_record import build_image_record, parse_image_record
from facerec.data.pack import FacePack
from facerec.data.record_writer import MAGIC_BYTES, frame_record
from facerec.data.recordio import RecordReader, RecordWriter
from facerec.errors import DataError, MissingPathError, RecordError

IO = ("mmap", "pread")
REAL = (("small", "train"), ("veclabel", "train"), ("multipart", "raw"), ("multipart", "train"))


def write(folder: Path, payloads: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / "train.rec", folder / "train.idx"):
        path.unlink(missing_ok=True)
    with RecordWriter(folder / "train.rec") as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)
    return folder / "train.rec"


def copy_real(shared_data: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(shared_data / "mxnet" / name, tmp_path / name))


def expected_digests(folder: Path, stem: str) -> dict[int, str]:
    name = "train_expected.json" if (folder.name, stem) == ("multipart", "train") else "expected.json"
    content: dict[str, Any] = json.loads((folder / name).read_text())
    if "records" in content:
        return {record["key"]: record["sha256"] for record in content["records"]}
    return {int(key): digest for key, digest in content["sha256"].items()}


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize(("name", "stem"), REAL)
def test_payloads_of_mxnets_files_are_exact(
    shared_data: Path, tmp_path: Path, name: str, stem: str, io: Literal["mmap", "pread"]
) -> None:
    folder = copy_real(shared_data, tmp_path, name)
    expected = expected_digests(folder, stem)
    with RecordReader(folder / f"{stem}.rec", io=io) as reader:
        assert set(reader.keys.tolist()) == set(expected)
        for key, digest in expected.items():
            assert hashlib.sha256(reader.read(key)).hexdigest() == digest


@pytest.mark.parametrize(("name", "stem"), REAL)
def test_the_writer_reproduces_mxnets_files_byte_for_byte(
    shared_data: Path, tmp_path: Path, name: str, stem: str
) -> None:
    folder = copy_real(shared_data, tmp_path, name)
    keys = [int(line.split(b"\t")[0]) for line in (folder / f"{stem}.idx").read_bytes().splitlines()]
    with RecordReader(folder / f"{stem}.rec") as reader, RecordWriter(tmp_path / "again.rec") as writer:
        for key in keys:
            writer.write(key, reader.read(key))
    for suffix in ("rec", "idx"):
        assert (tmp_path / f"again.{suffix}").read_bytes() == (folder / f"{stem}.{suffix}").read_bytes()


def test_lfw_has_its_published_counts(shared_data: Path, tmp_path: Path) -> None:
    for name in ("train.rec", "train.idx", "property"):
        (tmp_path / name).symlink_to(shared_data / "lfw" / name)
    pack = FacePack.open(tmp_path)
    assert (pack.num_images, pack.num_classes) == (10_562, 4_859)
    assert len(set(pack.labels().tolist())) == 4_859


PIECES = st.one_of(st.just(MAGIC_BYTES), st.binary(max_size=9), st.just(MAGIC_BYTES[:3]))
PAYLOADS = st.lists(st.lists(PIECES, max_size=6).map(b"".join), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=PAYLOADS)
def test_what_is_written_is_read_wherever_the_magic_lies(tmp_path: Path, payloads: list[bytes]) -> None:
    rec = write(tmp_path, payloads)
    for io in IO:
        with RecordReader(rec, io=io) as reader:
            assert [reader.read(key) for key in range(len(payloads))] == payloads


def test_a_payload_is_cut_at_aligned_magics_alone() -> None:
    magic = struct.pack("<I", 0xCED7230A)

    def part(flag: int, payload: bytes) -> bytes:
        return magic + struct.pack("<I", flag << 29 | len(payload)) + payload + bytes(-len(payload) % 4)

    odd = b"a" + magic + b"bcd" + b"ef" + magic
    assert frame_record(odd) == part(0, odd)
    even = b"abcd" + magic + b"e" + magic + b"fgh" + magic
    assert frame_record(even) == part(1, b"abcd") + part(2, b"e" + magic + b"fgh") + part(3, b"")


@pytest.mark.parametrize("io", IO)
def test_a_pickled_reader_reads_on(tmp_path: Path, io: Literal["mmap", "pread"]) -> None:
    rec = write(tmp_path, [b"one", b"two" + MAGIC_BYTES, b"three"])
    with RecordReader(rec, io=io) as reader, pickle.loads(pickle.dumps(reader)) as copy:
        assert copy.io == io
        assert [copy.read(key) for key in range(3)] == [reader.read(key) for key in range(3)]


def test_a_pickled_reader_notices_that_the_file_changed(tmp_path: Path) -> None:
    rec = write(tmp_path, [b"one", b"two"])
    with RecordReader(rec) as reader:
        state = pickle.dumps(reader)
    write(tmp_path, [b"one", b"two", b"three"])
    with pytest.raises(RecordError, match="has changed"):
        pickle.loads(state)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_read_at_the_same_time(tmp_path: Path) -> None:
    payloads = [bytes([number]) * (number * 37) for number in range(200)]
    for io in IO:
        with RecordReader(write(tmp_path, payloads), io=io) as reader:
            context = multiprocessing.get_context("fork")
            receivers = []
            for shift in range(3):
                receiver, sender = context.Pipe(duplex=False)
                keys = [(7 * number + shift) % 200 for number in range(200)]
                process = context.Process(target=_send_digest, args=(reader, keys, sender))
                process.start()
                receivers.append((process, receiver, keys))
            for process, receiver, keys in receivers:
                assert receiver.recv() == hashlib.sha256(b"".join(payloads[key] for key in keys)).hexdigest()
                process.join()


def _send_digest(reader: RecordReader, keys: list[int], sender: Any) -> None:
    sender.send(hashlib.sha256(b"".join(reader.read(key) for key in keys)).hexdigest())


def image_payloads(rng: random.Random) -> list[bytes]:
    """Image records of every kind: one label, several, parts, without an image, and every length modulo 4."""
    payloads = [build_image_record(rng.randbytes(number), label=number, record_id=number) for number in range(40, 48)]
    payloads += [build_image_record(rng.randbytes(50 + number), label=[number, 1.0, 2.0][:number]) for number in (1, 3)]
    payloads += [
        build_image_record(rng.randbytes(4) + MAGIC_BYTES + rng.randbytes(number), label=5) for number in (3, 4)
    ]
    return [*payloads, build_image_record(b"", label=[3.0, 9.0]), build_image_record(b"", label=2)]


@pytest.mark.parametrize("io", IO)
def test_a_batch_and_single_readings_are_the_parsed_payloads(tmp_path: Path, io: Literal["mmap", "pread"]) -> None:
    payloads = image_payloads(random.Random(3))
    expected = [parse_image_record(payload) for payload in payloads]
    order = [5, 0, *range(len(payloads)), 5]
    with RecordReader(write(tmp_path, payloads), io=io) as reader:
        batch = reader.read_batch(np.array(order))
        for row, key in enumerate(order):
            record, alone = expected[key], reader.read_image(key)
            assert bytes(batch.images[row]) == bytes(record.image) == bytes(alone.image)
            assert (batch.flags[row], batch.labels[row]) == (record.flag, record.label) == (alone.flag, alone.label)
            assert batch.record_ids[row].tolist() == [record.record_id, record.record_id2]
            assert alone.labels.tolist() == record.labels.tolist()
            assert (alone.record_id, alone.record_id2) == (record.record_id, record.record_id2)


@pytest.mark.parametrize("io", IO)
def test_a_batch_names_its_damaged_records_and_gives_the_others(tmp_path: Path, io: Literal["mmap", "pread"]) -> None:
    payloads = image_payloads(random.Random(4))
    payloads[3] = b"no room for a header"
    rec = write(tmp_path, payloads)
    offset = RecordReader(rec).offset_of(6)
    content = bytearray(rec.read_bytes())
    content[offset] ^= 1
    rec.write_bytes(content)
    with RecordReader(rec, io=io) as reader:
        faults: dict[int, RecordError] = {}
        batch = reader.read_batch(np.array([6, 2, 3, 99, 7]), faults=faults)
        assert {row: error.key for row, error in faults.items()} == {0: 6, 2: 3, 3: 99}
        assert faults[0].offset == offset
        assert [bytes(image) for image in batch.images] == [
            b"",
            bytes(parse_image_record(payloads[2]).image),
            b"",
            b"",
            bytes(parse_image_record(payloads[7]).image),
        ]
        for key in (6, 3, 99):
            with pytest.raises(RecordError, match=f"{key}") as caught:
                reader.read_batch(np.array([0, key]))
            assert caught.value.key == key
            with pytest.raises(RecordError) as alone:
                reader.read_image(key)
            assert str(alone.value) == str(caught.value)


@pytest.mark.parametrize("io", IO)
def test_announcing_records_asks_for_their_very_spans(
    tmp_path: Path, io: Literal["mmap", "pread"], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, begin, length, advice: spans.append((begin, length)))
    with RecordReader(write(tmp_path, [bytes(20), bytes(1000), bytes(8)]), io=io) as reader:
        reader.announce(np.array([1, 77, 0]))
        reader.announce(np.array([2]))
    assert spans[:2] == [(28, 1008), (0, 28)]
    assert spans[2][0] == 1036
    assert spans[2][1] <= 1 << 20


def test_images_of_a_batch_outlive_the_reader(tmp_path: Path) -> None:
    payloads = image_payloads(random.Random(5))
    with RecordReader(write(tmp_path, payloads)) as reader:
        images = reader.read_batch(np.arange(8)).images
    assert [bytes(image) for image in images] == [bytes(parse_image_record(part).image) for part in payloads[:8]]
    with pytest.raises(ValueError, match="is closed"):
        reader.read_batch(np.arange(8))


@pytest.mark.parametrize("key", [-1, 3, 1 << 40])
def test_an_unknown_key_is_named(tmp_path: Path, key: int) -> None:
    with RecordReader(write(tmp_path, [b"a", b"b", b"c"])) as reader:
        for read in (reader.read, reader.read_image, lambda wanted: reader.read_batch(np.array([wanted]))):
            with pytest.raises(RecordError, match=f"no key {key}") as caught:
                read(key)
            assert caught.value.key == key


@pytest.mark.parametrize("io", IO)
def test_a_cut_off_file_is_refused_or_costs_its_last_record_alone(
    tmp_path: Path, io: Literal["mmap", "pread"], caplog: pytest.LogCaptureFixture
) -> None:
    payloads = [b"first record", b"", b"second" + MAGIC_BYTES * 2, b"the last one"]
    rec = write(tmp_path, payloads)
    content = rec.read_bytes()
    last = RecordReader(rec, io=io).offset_of(3)
    for length in range(len(content)):
        rec.write_bytes(content[:length])
        caplog.clear()
        reader = attempt(lambda: RecordReader(rec, io=io))
        if length < last:
            assert "record 3 at byte" in str(reader)
            continue
        with reader:
            assert "record 3 at byte" in caplog.text
            assert [reader.read(key) for key in range(3)] == payloads[:3]
            with pytest.raises(RecordError, match=rf"record 3 at byte {last} is cut off") as caught:
                reader.read(3)
            assert (caught.value.key, caught.value.offset) == (3, last)


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("bit", range(2, 29))
def test_a_wrong_bit_in_the_last_length_costs_the_last_record_alone(
    tmp_path: Path, io: Literal["mmap", "pread"], bit: int
) -> None:
    payloads = [b"first record", b"second", b"the last one"]
    rec = write(tmp_path, payloads)
    content = bytearray(rec.read_bytes())
    place = RecordReader(rec).offset_of(2) + 4 + bit // 8
    content[place] ^= 1 << bit % 8
    rec.write_bytes(content)
    with RecordReader(rec, io=io) as reader:
        assert [reader.read(key) for key in range(2)] == payloads[:2]
        with pytest.raises(RecordError, match="record 2 at byte"):
            reader.read(2)


def test_the_index_of_another_file_is_refused(tmp_path: Path) -> None:
    rec = write(tmp_path / "one", [bytes(10 + number) for number in range(30)])
    other = write(tmp_path / "other", [bytes(40 - number) for number in range(30)])
    shutil.copy(other.with_suffix(".idx"), rec.with_suffix(".idx"))
    with pytest.raises(RecordError, match=r"train\.idx belongs to another file"):
        RecordReader(rec)


@pytest.mark.parametrize("line", ["1", "1\t2\t3", "one\t0", "1\t-4", "1.5\t0", "0x1\t4", "1\t99999999999999999999"])
def test_a_malformed_index_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    rec = write(tmp_path, [b"a", b"b"])
    rec.with_suffix(".idx").write_text(f"0\t0\n\n{line}\n")
    with pytest.raises(DataError, match=r"train\.idx, line 3: "):
        RecordReader(rec)


@pytest.mark.parametrize(
    ("text", "problem"), [("0\t0\n0\t12\n", "key 0 twice"), ("0\t0\n1\t0\n", "0 and 1 one offset")]
)
def test_duplicates_in_the_index_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    rec = write(tmp_path, [b"a", b"b"])
    rec.with_suffix(".idx").write_text(text)
    with pytest.raises(DataError, match=problem):
        RecordReader(rec)


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("shift", [-16, -4, 4, 16])
def test_a_wrong_line_of_the_index_costs_its_own_record_alone(
    tmp_path: Path, io: Literal["mmap", "pread"], shift: int
) -> None:
    payloads = [bytes([number]) * 30 + MAGIC_BYTES * (number % 2) + b"\1" * 40 for number in range(12)]
    path = write(tmp_path, payloads)
    lines = path.with_suffix(".idx").read_text().splitlines()
    key, offset = map(int, lines[6].split("\t"))
    lines[6] = f"{key}\t{offset + shift}"
    path.with_suffix(".idx").write_text("\n".join(lines) + "\n")
    with RecordReader(path, io=io) as reader:
        for other in range(12):
            if other != 6:
                assert reader.read(other) == payloads[other]
        with pytest.raises(RecordError) as caught:
            reader.read(6)
    assert (caught.value.key, caught.value.offset) == (6, offset + shift)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"train\.rec does not exist"):
        RecordReader(tmp_path / "train.rec")
    rec = write(tmp_path, [b"a"])
    rec.with_suffix(".idx").unlink()
    with pytest.raises(MissingPathError, match=r"train\.idx does not exist"):
        RecordReader(rec)


def test_the_writer_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    rec = write(tmp_path, [b"a"])
    with pytest.raises(DataError, match="exists already"):
        RecordWriter(rec)
    with RecordWriter(tmp_path / "new.rec") as writer:
        writer.write(1, b"a")
        for key in (1, -1):
            with pytest.raises(DataError, match=f"key {key} is negative or was written"):
                writer.write(key, b"b")


def test_a_failing_block_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        _write_and_fail(tmp_path / "new.rec")
    assert list(tmp_path.iterdir()) == []


def _write_and_fail(rec: Path) -> None:
    with RecordWriter(rec) as writer:
        writer.write(0, b"a")
        raise RuntimeError("interrupted")


def part_headers(content: bytes) -> list[tuple[int, int]]:
    """Place and length of every part, found by walking the file."""
    parts, place = [], 0
    while place < len(content):
        length = int.from_bytes(content[place + 4 : place + 8], "little") & (1 << 29) - 1
        parts.append((place, length))
        place += 8 + (length + 3) // 4 * 4
    return parts


def damage(content: bytes, rng: random.Random) -> bytes:
    """The file with one part's magic, length, continuation flag or padding changed, or cut off; never its payload."""
    place, length = rng.choice(part_headers(content))
    word = int.from_bytes(content[place + 4 : place + 8], "little")
    kind = rng.choice(("magic", "bit", "length", "flag", "padding", "cut"))
    changed = bytearray(content)
    if kind == "magic":
        changed[place + rng.randrange(4)] ^= 1 << rng.randrange(8)
    elif kind == "padding" and length % 4:
        changed[place + 8 + length + rng.randrange(-length % 4)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[rng.randrange(len(content)) :]
    else:
        new_word = word ^ 1 << rng.randrange(32)
        if kind == "length":
            new_word = word >> 29 << 29 | max(0, length + rng.choice((-40, -8, -4, 4, 8, 12, 400)))
        elif kind == "flag":
            new_word = word ^ rng.randrange(1, 8) << 29
        changed[place + 4 : place + 8] = new_word.to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize("io", IO)
def test_damage_is_reported_with_key_and_offset_or_harmless(tmp_path: Path, io: Literal["mmap", "pread"]) -> None:
    rng = random.Random(11)
    payloads = [rng.randbytes(rng.randrange(60)) for _ in range(12)]
    payloads[4] = MAGIC_BYTES + payloads[4] + MAGIC_BYTES
    payloads[7] = bytes(8) + MAGIC_BYTES + b"middle.." + MAGIC_BYTES + b"x"
    rec = write(tmp_path, payloads)
    content = rec.read_bytes()
    num_reported = 0
    for _ in range(400):
        rec.write_bytes(damage(content, rng))
        reader = attempt(lambda: RecordReader(rec, io=io))
        if isinstance(reader, RecordError):
            assert reader.key is not None
            assert reader.offset is not None
            num_reported += 1
            continue
        with reader:
            for key, payload in enumerate(payloads):
                found = attempt(lambda: reader.read(key))  # noqa: B023 - called at once
                if isinstance(found, RecordError):
                    assert (found.key, found.offset) == (key, reader.offset_of(key))
                    assert f"record {key} at byte {found.offset}" in str(found)
                    num_reported += 1
                    continue
                # A length that grows into its own padding is the one damage that the format cannot show.
                assert found.rstrip(b"\0") == payload.rstrip(b"\0")
                assert 0 <= len(found) - len(payload) < 4
    assert num_reported > 300


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("short_by", [1, 2, 3])
def test_a_length_that_is_a_little_too_short_is_noticed(
    tmp_path: Path, io: Literal["mmap", "pread"], short_by: int
) -> None:
    rec = write(tmp_path, [b"x" * 12, b"y" * 12])
    content = bytearray(rec.read_bytes())
    content[4:8] = struct.pack("<I", 12 - short_by)
    rec.write_bytes(content)
    with RecordReader(rec, io=io) as reader:
        with pytest.raises(RecordError, match=r"record 0 at byte 0 is damaged: its padding at byte .* is not zero"):
            reader.read(0)
        assert reader.read(1) == b"y" * 12


def attempt(read: Callable[[], Any]) -> Any:
    """What ``read`` gives, or the error that it raises for damaged records."""
    try:
        return read()
    except RecordError as error:
        return error
