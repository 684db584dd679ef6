"""The binary copy of an index: used where it is current, never where it is stale, and never needed."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facerec.data import index as index_module
from facerec.data.image_record import build_image_record
from facerec.data.index import NO_RECORD_FOLLOWS, RecordIndex, open_index
from facerec.data.index_text import sort_rows
from facerec.data.record_writer import MAGIC
from facerec.data.recordio import RecordReader
from facerec.errors import DataError, MissingPathError, RecordError


def write_index(folder: Path, rows: list[tuple[int, int]]) -> Path:
    path = folder / "train.idx"
    path.write_text("".join(f"{key}\t{offset}\n" for key, offset in rows))
    return path


def rows_of(index: RecordIndex) -> list[tuple[int, int]]:
    return list(zip(index.keys.tolist(), index.offsets.tolist(), strict=True))


ROWS = [(key, 12 * key) for key in range(2000)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The index files that were parsed as text."""
    paths: list[Path] = []
    parse = index_module.parse_index

    def watch(text: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
        paths.append(path)
        return parse(text, path)

    monkeypatch.setattr(index_module, "parse_index", watch)
    return paths


def test_the_text_is_parsed_once_and_then_mapped(tmp_path: Path, parsed: list[Path]) -> None:
    path = write_index(tmp_path, ROWS)
    for _ in range(3):
        index = open_index(path)
        assert rows_of(index) == ROWS
        assert index.is_mapped
        assert index.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert parsed == [path]


def test_a_copied_index_keeps_its_cache(tmp_path: Path, parsed: list[Path]) -> None:
    path = write_index(tmp_path, ROWS)
    open_index(path)
    os.utime(path, ns=(1, 1))
    assert rows_of(open_index(path)) == ROWS
    assert parsed == [path]


def test_a_stale_cache_is_never_used(tmp_path: Path) -> None:
    path = write_index(tmp_path, ROWS)
    before = path.stat()
    open_index(path)
    # Same length and, as far as a program can set it, the same time; once at each end and once in the middle.
    for changed in (1, 1000, 1999):
        rows = list(ROWS)
        rows[changed] = (changed, 12 * changed + 4)
        write_index(tmp_path, rows)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert rows_of(open_index(path)) == rows
    write_index(tmp_path, ROWS[:-1])
    assert rows_of(open_index(path)) == ROWS[:-1]


@pytest.mark.parametrize("kind", ["empty", "short", "torn", "noise", "other version", "wrong shape"])
def test_a_damaged_cache_is_replaced(tmp_path: Path, kind: str) -> None:
    path = write_index(tmp_path, ROWS)
    open_index(path)
    cache = tmp_path / "train.idx.cache"
    content = cache.read_bytes()
    numbers = np.frombuffer(content, dtype=np.int64).copy()
    if kind == "other version":
        numbers[0] += 1
    elif kind == "wrong shape":
        numbers[6:8] = (2, -1)
    damaged = {
        "empty": b"",
        "short": content[:50],
        "torn": content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
        "noise": np.random.default_rng(1).bytes(len(content)),
    }
    cache.unlink()
    cache.write_bytes(damaged.get(kind, numbers.tobytes()))
    assert rows_of(open_index(path)) == ROWS
    assert rows_of(open_index(path)) == ROWS


@pytest.mark.parametrize("ordered", [True, False])
def test_one_wrong_bit_anywhere_in_the_cache_is_noticed(tmp_path: Path, ordered: bool) -> None:
    rows = ROWS if ordered else [(key, 12 * (1999 - key)) for key in range(2000)]
    path = write_index(tmp_path, rows)
    expected = open_index(path).following.tolist()
    cache = tmp_path / "train.idx.cache"
    content = cache.read_bytes()
    for place in range(0, len(content), 997):
        damaged = bytearray(content)
        damaged[place] ^= 1
        cache.unlink()
        cache.write_bytes(damaged)
        index = open_index(path)
        assert rows_of(index) == rows
        assert index.following.tolist() == expected


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_index(tmp_path, ROWS)

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(index_module, "atomic_write_bytes", refuse)
    index = open_index(path)
    assert rows_of(index) == ROWS
    assert not index.is_mapped
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.idx"]
    copy = pickle.loads(pickle.dumps(index))
    assert rows_of(copy) == ROWS
    assert copy.sha256 == index.sha256


def test_offsets_past_four_gibibytes_are_exact(tmp_path: Path) -> None:
    rows = [(key, (1 << 32) * key + 4 * key) for key in range(5)] + [(5, (1 << 59) + 4)]
    path = write_index(tmp_path, rows)
    for _ in range(2):
        index = open_index(path)
        assert rows_of(index) == rows
        assert index.following.tolist() == [offset for _, offset in rows[1:]] + [NO_RECORD_FOLLOWS]


def test_keys_come_in_order_and_neighbours_are_those_in_the_file(tmp_path: Path) -> None:
    path = write_index(tmp_path, [(7, 0), (3, 16), (90, 32), (1, 48)])
    for _ in range(2):
        index = open_index(path)
        assert rows_of(index) == [(1, 48), (3, 16), (7, 0), (90, 32)]
        assert index.following.tolist() == [NO_RECORD_FOLLOWS, 32, 16, 48]
        assert index.last_position == 0


@pytest.mark.parametrize(
    ("keys", "offsets", "bytes_per_record"),
    [
        (range(5, 905), range(0, 10800, 12), 8),
        (range(5, 905), range(10800, 0, -12), 12),
        (range(5, 2705, 3), range(0, 10800, 12), 12),
        (range(5, 2705, 3), range(10800, 0, -12), 16),
        ([*range(899), 1 << 40], range(0, 10800, 12), 16),
        ([*range(899), 1 << 40], range(10800, 0, -12), 20),
    ],
)
def test_an_index_takes_few_bytes_a_record_and_finds_every_key(
    tmp_path: Path, keys: Sequence[int], offsets: Sequence[int], bytes_per_record: int
) -> None:
    rows = list(zip(keys, offsets, strict=True))
    path = write_index(tmp_path, sorted(rows, key=lambda row: row[1]))
    index = open_index(path)
    assert index.num_bytes == (tmp_path / "train.idx.cache").stat().st_size
    assert index.num_bytes <= bytes_per_record * len(rows) + 136
    ends = dict(itertools.pairwise(sorted(offsets)))
    for row, (key, offset) in enumerate(rows):
        assert (index.row_of(key), index.key_at(row), index.offset_at[row]) == (row, key, offset)
        assert index.following_at(row) == ends.get(offset, NO_RECORD_FOLLOWS)
    assert index.rows_of(np.array(keys)).tolist() == list(range(len(rows)))
    absent = [-1, keys[0] - 1, keys[-1] + 1, keys[-2] + 1, 1 << 50]
    expected = [list(keys).index(key) if key in keys else -1 for key in absent]
    assert index.rows_of(np.array(absent)).tolist() == expected == [index.row_of(key) for key in absent]
    assert index.keys_at(np.array([0, 7, 899])).tolist() == [keys[0], keys[7], keys[899]]
    assert [index.num_keys_below(key) for key in (0, keys[7], keys[7] + 0.5, 2.0**60)] == [0, 7, 8, 900]
    copy = pickle.loads(pickle.dumps(index))
    assert rows_of(copy) == rows


@pytest.mark.slow
def test_more_records_than_float32_can_count_in_a_file_of_a_hundred_gigabytes(tmp_path: Path) -> None:
    count, step = (1 << 24) + 1000, 7200
    path = tmp_path / "train.idx"
    with open(path, "w") as stream:
        for begin in range(0, count, 1 << 18):
            stream.write("".join(f"{key}\t{key * step}\n" for key in range(begin, min(count, begin + (1 << 18)))))
    image = build_image_record(b"x" * (step - 32), label=7)
    chosen = [0, 1, (1 << 32) // step + 1, (1 << 24) + 1, count - 1]
    with open(tmp_path / "train.rec", "wb") as stream:
        for key in chosen:
            stream.seek(key * step)
            stream.write(struct.pack("<II", MAGIC, len(image)) + image)
    for io in ("mmap", "pread"):
        with RecordReader(tmp_path / "train.rec", io=io, check=False) as reader:
            assert len(reader) == count
            assert reader.index.num_bytes < 9 * count
            assert [reader.read(key) for key in chosen] == [image] * len(chosen)
            assert reader.read_batch(np.array(chosen)).labels.tolist() == [7.0] * len(chosen)
            with pytest.raises(RecordError, match=rf"record {count - 2} at byte {(count - 2) * step} is damaged"):
                reader.read(count - 2)


@pytest.mark.parametrize("scale", [1, 3, 1 << 40, 1 << 58])
def test_rows_are_sorted_whatever_the_spread_of_the_numbers(scale: int) -> None:
    values = np.random.default_rng(1).permutation(20) * scale + 5
    for numbers in (values, np.append(values[:-1], values[0])):
        order, ascending = sort_rows(numbers)
        assert ascending.tolist() == sorted(numbers.tolist()) == numbers[order].tolist()
        assert sorted(order.tolist()) == list(range(20))


@pytest.mark.parametrize("text", ["0\t0\n1\t12", "0 0\r\n1 12\r\n", "\n0\t0\n\n 1\t12 \n", "0\t0\n1\t12\n"])
def test_texts_of_editors_and_other_writers_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.idx"
    path.write_bytes(text.encode())
    assert rows_of(open_index(path)) == [(0, 0), (1, 12)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("0\t0\n1\n", "line 2: '1'"),
        ("0\t0\n1\t\n", "line 2"),
        ("0\t0\n1\t9223372036854775807\n", "line 2"),
        ("0\t0\n-1\t12\n", "line 2: '-1"),
        ("5\t0\n5\t12\n", "key 5 twice"),
        ("5\t12\n6\t12\n", "the keys 5 and 6 one offset"),
    ],
)
def test_a_damaged_text_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "train.idx"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"train\.idx.*{problem}"):
        open_index(path)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"train\.idx does not exist"):
        open_index(tmp_path / "train.idx")
