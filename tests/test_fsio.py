"""Files and folders that are there completely or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from facerec import fsio
from facerec.errors import CheckpointError
from facerec.fsio import (
    atomic_folder,
    atomic_write_bytes,
    atomic_write_text,
    check_manifest,
    point_link_at,
    sha256_file,
    whole_file,
    write_manifest,
)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    atomic_write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic_write_bytes(path, b"b")
    assert path.read_bytes() == b"b"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_keeps_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fsio.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_files_and_folders_have_the_usual_permissions(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "folder"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_folder_gets_its_name_at_the_end(tmp_path: Path) -> None:
    final = tmp_path / "runs" / "x"
    with atomic_folder(final) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").write_text("1")
        assert not final.exists()
        assert partial.parent == final.parent
    assert (final / "deep" / "a").read_text() == "1"
    assert list(final.parent.iterdir()) == [final]


def test_a_folder_that_exists_is_never_written_over(tmp_path: Path) -> None:
    final = tmp_path / "x"
    final.mkdir()
    (final / "a").write_text("old")
    with pytest.raises(FileExistsError, match="exists already"), atomic_folder(final):
        pytest.fail("the block must not run")
    assert (final / "a").read_text() == "old"


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    final = tmp_path / "x"

    def race() -> None:
        with atomic_folder(final) as partial:
            (partial / "a").write_text("new")
            final.mkdir()
            (final / "a").write_text("other")

    with pytest.raises(OSError, match="not empty"):
        race()
    assert (final / "a").read_text() == "other"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "x") as partial:
            (partial / "a").write_text("1")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_everything_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def note_rename(old: Path, new: Path) -> None:
        events.append("rename")
        rename(old, new)

    monkeypatch.setattr(fsio.os, "fsync", note_sync)
    monkeypatch.setattr(fsio.os, "rename", note_rename)
    with atomic_folder(tmp_path / "x") as partial:
        (partial / "a").write_text("1")
        (partial / "b").write_text("2")
    at = events.index("rename")
    assert set(events[:at]) == {"a", "b", partial.name}
    assert events[at + 1 :] == [tmp_path.name]


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point_link_at(tmp_path / "last", name)
        assert os.readlink(tmp_path / "last") == name
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["last", "one", "two"]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "a").write_bytes(b"aaaa")
    (folder / "b").write_bytes(b"bb")
    write_manifest(folder, step=7)
    return folder


def test_a_manifest_lists_sizes_and_digests(sealed: Path) -> None:
    manifest = check_manifest(sealed)
    assert manifest["step"] == 7
    assert manifest["files"]["a"] == {"bytes": 4, "sha256": hashlib.sha256(b"aaaa").hexdigest()}
    assert sorted(manifest["files"]) == ["a", "b"]
    assert sha256_file(sealed / "b") == hashlib.sha256(b"bb").hexdigest()


def test_a_changed_file_is_found(sealed: Path) -> None:
    (sealed / "a").write_bytes(b"aaab")
    with pytest.raises(CheckpointError, match="a has changed"):
        check_manifest(sealed)


def test_a_missing_file_is_found(sealed: Path) -> None:
    (sealed / "b").unlink()
    with pytest.raises(CheckpointError, match="b is missing"):
        check_manifest(sealed)


def test_an_added_file_is_found(sealed: Path) -> None:
    (sealed / "c").touch()
    with pytest.raises(CheckpointError, match="holds c, which its manifest does not list"):
        check_manifest(sealed)


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it has no manifest\.json"):
        check_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"files": {"a": {}}}', b'{"files": 3}', b"\xff"])
def test_a_damaged_manifest_is_named(sealed: Path, content: bytes) -> None:
    (sealed / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        check_manifest(sealed)


def test_a_block_that_fails_leaves_a_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as draft:
            draft.write_text("new")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        write_half()
    assert path.read_text() == "old"
    with whole_file(path) as draft:
        draft.write_text("new")
        assert draft.suffix == ".onnx"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
