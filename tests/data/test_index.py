"""The binary copy of an index: used where it is current, never where it is stale, and never needed."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from facerec.data import index as index_module
from facerec.data.index import NO_RECORD_FOLLOWS, RecordIndex, open_index
from facerec.errors import DataError, MissingPathError


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
    parse = index_module._parse

    def watch(text: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
        paths.append(path)
        return parse(text, path)

    monkeypatch.setattr(index_module, "_parse", watch)
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
