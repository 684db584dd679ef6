from __future__ import annotations

import os

from facerec.tracking.snapshot import SMALL_FILE_BYTES, drop_snapshot, snapshot


def test_a_small_file_is_kept_as_it_was_when_it_was_logged(tmp_path):
    source = tmp_path / "plot.svg"
    source.write_text("first")
    upload = snapshot(source, folder=tmp_path / "spool" / "1")
    source.write_text("second")
    assert upload.name == "plot.svg"
    assert upload.read_text() == "first"


def test_a_large_file_and_a_folder_survive_their_removal_without_being_copied(tmp_path):
    large = tmp_path / "weights.bin"
    large.write_bytes(b"w" * SMALL_FILE_BYTES)
    folder = tmp_path / "checkpoint"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "state.json").write_text("{}")
    uploads = [snapshot(path, folder=tmp_path / "spool" / path.name) for path in (large, folder)]
    assert os.path.samefile(large, uploads[0])
    large.unlink()
    (folder / "inner" / "state.json").unlink()
    assert uploads[0].stat().st_size == SMALL_FILE_BYTES
    assert (uploads[1] / "inner" / "state.json").read_text() == "{}"


def test_where_no_link_is_possible_the_original_is_named_and_never_removed(tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    large = tmp_path / "weights.bin"
    large.write_bytes(b"w" * SMALL_FILE_BYTES)
    spool = tmp_path / "spool"
    upload = snapshot(large, folder=spool / "1")
    assert upload == large
    drop_snapshot(upload, folder=spool)
    assert large.exists()


def test_an_uploaded_snapshot_is_removed_and_the_original_stays(tmp_path):
    source = tmp_path / "plot.svg"
    source.write_text("first")
    upload = snapshot(source, folder=tmp_path / "spool" / "1")
    drop_snapshot(upload, folder=tmp_path / "spool")
    assert not upload.exists()
    assert source.exists()
