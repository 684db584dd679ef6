from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from facerec.cli.sync import sync
from facerec.tracking.spool import Spool


def leave_tags(folder, *, uri, run_id):
    """What a training leaves whose store did not take its last tags."""
    spool = Spool.create(folder, session="0001-a", tracking_uri=uri)
    spool.add("tags", {"tags": {"first": "1"}})
    spool.write()
    spool.acknowledge(spool.waiting[0], run_id=run_id)
    spool.add("tags", {"tags": {"late": "2"}})
    spool.close()


def test_sync_sends_what_waits_and_says_so(store, clean_environment):
    run = store.create_run(store.create_experiment("faces"))
    leave_tags(Path("facerec-spool"), uri=f"sqlite:///{clean_environment}/mlflow.db", run_id=run.info.run_id)
    result = CliRunner().invoke(sync, ["--json"])
    assert result.exit_code == 0
    (session,) = json.loads(result.stdout)["sessions"]
    assert (session["run_id"], session["sent"], session["left"]) == (run.info.run_id, 1, 0)
    assert store.get_run(run.info.run_id).data.tags["late"] == "2"
    assert "first" not in store.get_run(run.info.run_id).data.tags
    again = CliRunner().invoke(sync, [])
    assert (again.exit_code, again.stdout) == (0, "nothing waits in facerec-spool\n")


def test_what_is_left_gives_exit_code_1_and_each_silent_store_is_asked_once(clean_environment, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    leave_tags(Path("waiting"), uri=uri, run_id="a" * 32)
    Path("waiting/0001-a.jsonl").rename("waiting/0002-b.jsonl")
    leave_tags(Path("waiting"), uri=uri, run_id="a" * 32)
    result = CliRunner().invoke(sync, ["--spool", "waiting"])
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert "1 left" in first
    assert "Connection refused" in first
    assert second.endswith(f"{uri} does not answer")
    assert len(list(Path("waiting").glob("*.jsonl"))) == 2
