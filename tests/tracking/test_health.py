from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from facerec.tracking.health import machine, packages, stores
from facerec.tracking.health.check import is_healthy
from facerec.tracking.health.environments import check_environments
from facerec.tracking.health.machine import TorchProbe, check_cpu, check_disk
from facerec.tracking.health.packages import check_packages, check_python
from facerec.tracking.health.stores import check_spool, check_store
from facerec.tracking.spool import Spool


def by_name(checks):
    return {check.name: check for check in checks}


@pytest.fixture
def no_uri(clean_environment, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return clean_environment


def test_asking_for_the_default_store_does_not_create_it(no_uri):
    (check,) = check_store(fix=True)
    assert check.level == "ok"
    assert check.detail == f"{no_uri}/mlflow.db will be created"
    assert list(no_uri.iterdir()) == []


def test_an_empty_database_file_is_not_filled_by_asking(no_uri):
    sqlite3.connect("mlflow.db").close()
    Path("mlflow.db").touch()
    (check,) = check_store(fix=False)
    assert "will be created" in check.detail
    assert Path("mlflow.db").stat().st_size == 0


def test_an_old_file_store_that_would_be_chosen_and_refused_fails(no_uri, monkeypatch):
    Path("mlruns/0").mkdir(parents=True)
    Path("mlruns/0/meta.yaml").touch()
    (check,) = check_store(fix=False)
    assert check.level == "fail"
    assert "migrate-filestore" in check.advice
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{no_uri}/other.db")
    checks = by_name(check_store(fix=False))
    assert checks["tracking store"].level == "ok"
    assert checks["old file store"].level == "warn"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert by_name(check_store(fix=False))["tracking store"].level == "fail"


def test_artifacts_of_a_database_store_are_no_old_file_store(store):
    Path("mlruns/1/models").mkdir(parents=True)
    assert [check.level for check in check_store(fix=False)] == ["ok", "ok"]


def test_a_server_that_is_not_there_fails_at_once(no_uri, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    start = time.monotonic()
    (check,) = check_store(fix=False)
    assert time.monotonic() - start < 10
    assert check.level == "fail"
    assert "refused" in check.detail
    assert "secret" not in check.detail


def test_a_server_that_does_not_answer_fails_in_bounded_time(no_uri, monkeypatch):
    monkeypatch.setattr(stores, "_ANSWER_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        start = time.monotonic()
        (check,) = check_store(fix=False)
        assert time.monotonic() - start < 5
    assert check.level == "fail"
    assert "TimeoutError" in check.detail


def test_a_database_of_another_version_fails_and_says_how_to_upgrade(store, template_db, monkeypatch):
    Path("old.db").write_bytes(template_db.read_bytes())
    connection = sqlite3.connect("old.db")
    connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.commit()
    connection.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('old.db').absolute()}")
    (check,) = check_store(fix=False)
    assert check.level == "fail"
    assert "mlflow db upgrade" in check.advice


def test_a_file_that_is_no_database_fails(no_uri):
    Path("mlflow.db").write_text("no database " * 100)
    (check,) = check_store(fix=False)
    assert check.level == "fail"
    assert "not a database" in check.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_fails(no_uri):
    no_uri.chmod(0o500)
    assert check_store(fix=False)[0].level == "fail"


def test_runs_of_processes_that_are_gone_are_counted_and_fixed(store):
    from facerec.tracking.process import identity_tags

    experiment = store.create_experiment("faces")
    tags = {**identity_tags(), "facerec.process_started": "1.0"}
    stale = store.create_run(experiment, run_name="lost", tags=tags)
    foreign = store.create_run(experiment, tags={**tags, "facerec.host": "elsewhere"})
    found = by_name(check_store(fix=False))["open runs"]
    assert (found.level, found.facts["run_ids"]) == ("warn", [stale.info.run_id])
    assert store.get_run(stale.info.run_id).info.status == "RUNNING"
    assert by_name(check_store(fix=True))["open runs"].level == "ok"
    assert store.get_run(stale.info.run_id).info.status == "KILLED"
    assert store.get_run(foreign.info.run_id).info.status == "RUNNING"
    assert by_name(check_store(fix=False))["open runs"].facts["run_ids"] == []


def test_waiting_records_are_counted_and_stay(tmp_path):
    assert check_spool(tmp_path).level == "ok"
    spool = Spool.create(tmp_path, session="1", tracking_uri="http://127.0.0.1:1")
    for _ in range(3):
        spool.add("tags", {"tags": {}})
    spool.write()
    assert check_spool(tmp_path).facts == {"waiting": 0, "in_use": 1}
    spool.release()
    check = check_spool(tmp_path)
    assert (check.level, check.facts["waiting"]) == ("warn", 3)
    assert check_spool(tmp_path).facts["waiting"] == 3


def test_the_packages_here_are_the_ones_that_the_project_asks_for():
    assert check_python().level == "ok"
    check = check_packages()
    assert check.level == "ok"
    assert {"torch", "torchvision", "mlflow", "optuna", "numpy", "simplejpeg", "safetensors"} <= set(
        check.facts["versions"]
    )


def test_missing_and_old_packages_fail_by_name(monkeypatch):
    real = packages._installed
    wrong = {"optuna": None, "mlflow": "2.9.0"}
    monkeypatch.setattr(
        packages, "_installed", lambda name: wrong.get(name, "") or (None if name in wrong else real(name))
    )
    check = check_packages()
    assert check.level == "fail"
    assert "optuna is missing" in check.detail
    assert "mlflow is 2.9.0" in check.detail


def test_without_the_project_file_the_installed_metadata_is_used(monkeypatch, tmp_path):
    with_file = check_packages().facts["versions"]
    monkeypatch.setattr(packages, "_PYPROJECT", tmp_path / "none.toml")
    assert check_packages().facts["versions"] == with_file
    assert check_python().level == "ok"


def test_another_python_fails(monkeypatch):
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.9.1")
    assert check_python().level == "fail"


def put_on_path(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_each_environment_manager_is_found_by_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("CONDA_EXE", raising=False)
    monkeypatch.delenv("MLFLOW_CONDA_HOME", raising=False)
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin", "mlflow", "python"))
    levels = {check.name: check.level for check in check_environments()}
    assert levels == {
        "mlflow run, local": "warn",
        "mlflow run, conda": "off",
        "mlflow run, uv": "off",
        "mlflow run, virtualenv": "off",
        "mlflow run": "fail",
    }
    put_on_path(tmp_path / "bin", "uv", "pyenv", "conda")
    levels = {check.name: check.level for check in check_environments()}
    assert levels == {
        "mlflow run, local": "warn",
        "mlflow run, conda": "ok",
        "mlflow run, uv": "ok",
        "mlflow run, virtualenv": "ok",
    }


def test_in_an_activated_environment_the_local_manager_works(monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    check = by_name(check_environments())["mlflow run, local"]
    assert check.level == "ok"
    assert check.facts["command"].endswith("--env-manager local")
    assert "mlflow run" not in by_name(check_environments())


def test_conda_may_lie_where_mlflow_is_told_to_look(tmp_path, monkeypatch):
    put_on_path(tmp_path / "bin", "conda")
    monkeypatch.setenv("MLFLOW_CONDA_HOME", str(tmp_path))
    assert by_name(check_environments())["mlflow run, conda"].level == "ok"


def test_torch_and_a_torchvision_that_does_not_fit_fail(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    checks = by_name(TorchProbe().checks())
    assert checks["torch"].level == "fail"
    assert "torchvision::nms does not exist" in checks["torch"].detail


def test_a_torch_that_ends_the_process_fails(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (check,) = TorchProbe().checks()
    assert check.level == "fail"
    assert "exit code 3" in check.detail


def test_a_device_is_told_with_memory_and_bfloat16():
    device = {"name": "NVIDIA H100", "memory_gib": 79.2, "capability": "9.0", "bfloat16": True}
    check = machine._check_cuda({"devices": [device], "driver_warning": ""})
    assert check.detail == "NVIDIA H100 79.2 GiB, bfloat16 yes"
    old_driver = machine._check_cuda({"devices": [], "driver_warning": "The NVIDIA driver on your system is too old"})
    assert old_driver.level == "warn"


def test_the_processors_are_counted():
    assert check_cpu().facts["count"] == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("free", "level"), [(100e9, "ok"), (2e9, "warn"), (0.1e9, "fail")])
def test_a_full_disk_is_told(monkeypatch, tmp_path, free, level):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    check = check_disk(tmp_path)
    assert check.level == level
    assert is_healthy([check]) is (level != "fail")
