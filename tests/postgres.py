"""A PostgreSQL server of a test's own, from Debian's package, on a port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "free_port", "postgres_server", "running_postgres"]

_USER = "postgres"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A server that can be stopped and started again."""

    url: str
    """Of an empty database, for SQLAlchemy with psycopg."""
    control: tuple[str | Path, ...]
    start_options: tuple[str | Path, ...]

    def start(self) -> None:
        """Start it; returns once it answers."""
        _run(*self.control, *self.start_options, "start")

    def stop(self) -> None:
        """Stop it as a crash would: its connections break."""
        _run(*self.control, "-m", "immediate", "stop")


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server; yields the URL of an empty database. Skips the test where that is not possible."""
    with postgres_server() as server:
        yield server.url


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a cluster in a temporary folder.

    Skips the test where PostgreSQL or psycopg is not installed.
    """
    pytest.importorskip("psycopg", reason="psycopg is not installed: the extra `postgres` brings it")
    programs = _programs()
    # Short, because the name of a unix socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _USER)
        _run(programs / "initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "--no-sync")
        port = free_port()
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        server = PostgresServer(
            url=f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/postgres",
            control=(programs / "pg_ctl", "-D", str(folder / "data"), "-w"),
            start_options=("-l", str(folder / "log"), "-o", options),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL's server is not installed here (Debian's package is postgresql)")
    return found[-1].parent


def _run(*command: str | Path) -> None:
    # PostgreSQL refuses to run as root.
    prefix = ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout
