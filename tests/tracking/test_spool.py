from __future__ import annotations

import errno
import os
import stat

import pytest

from facerec.errors import TrackingError
from facerec.tracking.spool import Spool, spool_files

URI = "http://127.0.0.1:1"


def new_spool(folder, session="0001-a"):
    return Spool.create(folder, session=session, tracking_uri=URI)


def numbers(spool):
    return [entry.number for entry in spool.waiting]


def test_a_later_process_finds_what_was_not_acknowledged(tmp_path):
    spool = new_spool(tmp_path)
    for index in range(3):
        spool.add("tags", {"tags": {"index": str(index)}})
    spool.write()
    spool.acknowledge(spool.waiting[1], run_id="run1")
    spool.release()
    again = Spool.reopen(spool.path)
    assert again.header["tracking_uri"] == URI
    assert again.run_id == "run1"
    assert [entry.body["tags"]["index"] for entry in again.waiting] == ["0", "2"]
    again.add("tags", {"tags": {"index": "3"}})
    assert numbers(again) == [1, 3, 4]
    again.release()


def test_a_line_that_a_crash_cut_off_is_no_entry_and_spoils_no_other(tmp_path):
    spool = new_spool(tmp_path)
    spool.add("tags", {"tags": {"a": "1"}})
    spool.write()
    spool.release()
    with open(spool.path, "ab") as stream:
        stream.write(b'{"number":2,"kind":"ta')
    again = Spool.reopen(spool.path)
    assert numbers(again) == [1]
    again.acknowledge(again.waiting[0], run_id="run1")
    again.add("tags", {"tags": {"b": "2"}})
    again.write()
    again.release()
    last = Spool.reopen(spool.path)
    assert [entry.body for entry in last.waiting] == [{"tags": {"b": "2"}}]
    last.release()


def test_entries_are_on_the_disk_and_acknowledgements_need_not_be(tmp_path, monkeypatch):
    spool = new_spool(tmp_path)
    events = []
    real_write, real_sync = os.write, os.fsync

    def write(descriptor, data):
        events.append("write")
        return real_write(descriptor, data)

    def sync(descriptor):
        assert os.path.sameopenfile(descriptor, spool._descriptor)
        events.append("sync")
        real_sync(descriptor)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", sync)
    spool.add("tags", {"tags": {}})
    spool.write()
    assert events == ["write", "sync"]
    spool.acknowledge(spool.waiting[0], run_id="run1")
    assert events == ["write", "sync", "write"]
    spool.release()


def test_a_spool_in_use_is_left_alone(tmp_path):
    spool = new_spool(tmp_path)
    spool.add("tags", {"tags": {}})
    spool.write()
    assert Spool.reopen(spool.path) is None
    spool.release()
    assert Spool.reopen(spool.path) is not None


def test_an_acknowledged_spool_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "spool"
    spool = new_spool(folder)
    spool.add("tags", {"tags": {}})
    spool.write()
    spool.files_folder.mkdir()
    spool.acknowledge(spool.waiting[0], run_id="run1")
    spool.close()
    assert not folder.exists()


def test_a_spool_with_something_left_stays(tmp_path):
    spool = new_spool(tmp_path)
    spool.add("tags", {"tags": {}})
    spool.close()
    assert spool_files(tmp_path) == [spool.path]


def test_others_cannot_read_a_spool(tmp_path):
    spool = new_spool(tmp_path / "spool")
    spool.add("tags", {"tags": {}})
    spool.write()
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    spool.release()


def test_a_full_disk_loses_nothing_that_is_in_memory_and_is_written_once_there_is_room(tmp_path, monkeypatch, caplog):
    spool = new_spool(tmp_path)
    spool.add("tags", {"tags": {"a": "1"}})
    real_write = os.write

    def write_a_little(descriptor, data):
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write_a_little)
    spool.write()
    spool.add("tags", {"tags": {"b": "2"}})
    spool.write()
    assert numbers(spool) == [1, 2]
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
    monkeypatch.setattr(os, "write", real_write)
    spool.write()
    spool.release()
    again = Spool.reopen(spool.path)
    assert [entry.body["tags"] for entry in again.waiting] == [{"a": "1"}, {"b": "2"}]
    again.release()


def test_a_folder_that_cannot_be_made_leaves_the_entries_in_memory(tmp_path):
    (tmp_path / "file").write_text("")
    spool = new_spool(tmp_path / "file")
    spool.add("tags", {"tags": {}})
    spool.write()
    assert numbers(spool) == [1]
    spool.close()


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"hello": 1}\n')
    with pytest.raises(TrackingError, match=r"other\.jsonl is no spool file"):
        Spool.reopen(path)
