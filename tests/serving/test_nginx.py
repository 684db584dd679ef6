"""The documented proxy, run by nginx: TLS, users, limits."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

_CONFIG = Path(__file__).resolve().parents[2] / "docs" / "nginx.conf"
_MAIN = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/facerec.conf;
}}
"""


@dataclass
class Backend:
    """What stands where the model would be."""

    port: int
    seen: list[tuple[str, dict[str, str], int]] = field(default_factory=list)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self.rfile.read(length)
            made.seen.append((self.path, dict(self.headers), length))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *values: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Backend(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxy(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the proxy, and its certificate."""
    nginx, openssl = shutil.which("nginx") or "/usr/sbin/nginx", shutil.which("openssl")
    if not Path(nginx).is_file() or openssl is None:
        pytest.skip("the proxy's configuration is tested where nginx and openssl are installed")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = ["-keyout", "facerec.key", "-out", "facerec.crt"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    secret = subprocess.run([openssl, "passwd", "-apr1", "secret"], check=True, capture_output=True, text=True).stdout
    (folder / "facerec.htpasswd").write_text(f"ann:{secret}")
    text = _CONFIG.read_text()
    for old, new in (
        ("127.0.0.1:5001", f"127.0.0.1:{backend.port}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/", f"{folder}/"),
        # A busy machine sends too slowly to meet the real limit.
        ("rate=20r/s", "rate=1r/s"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "facerec.conf").write_text(text)
    # Workers of a server that root starts run as another user, who may not enter the folders of a test.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
    url, certificate = f"https://localhost:{port}", folder / "facerec.crt"
    try:
        _wait(url, certificate, process)
        yield url, certificate
    finally:
        process.terminate()
        process.communicate(timeout=15)


def _wait(url: str, certificate: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            _, complaint = process.communicate()
            raise AssertionError(complaint.decode(errors="replace"))
        try:
            requests.get(f"{url}/ping", verify=str(certificate), timeout=2)
        except requests.RequestException:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("nginx did not start")


def post(proxy: tuple[str, Path], body: bytes, *, user: tuple[str, str] | None = ("ann", "secret")) -> int:
    url, certificate = proxy
    headers = {"Content-Type": "application/json"}
    response = requests.post(
        f"{url}/invocations", data=body, auth=user, headers=headers, verify=str(certificate), timeout=30
    )
    assert "nginx/" not in response.headers["Server"]
    return response.status_code


def test_a_user_reaches_the_model_and_nobody_else_does(proxy: tuple[str, Path], backend: Backend) -> None:
    assert post(proxy, b"{}") == 200
    path, headers, length = backend.seen[-1]
    assert (path, length) == ("/invocations", 2)
    assert "Authorization" not in headers
    count = len(backend.seen)
    assert post(proxy, b"{}", user=None) == 401
    assert post(proxy, b"{}", user=("ann", "guess")) == 401
    assert len(backend.seen) == count


def test_a_body_past_the_limit_never_reaches_the_model(proxy: tuple[str, Path], backend: Backend) -> None:
    from facerec.serving.images import LIMITS

    count = len(backend.seen)
    assert f"client_max_body_size {LIMITS.body_bytes >> 20}m;" in _CONFIG.read_text()
    # nginx may close before the client has sent everything.
    with contextlib.suppress(requests.ConnectionError):
        assert post(proxy, bytes(LIMITS.body_bytes + 1)) == 413
    assert len(backend.seen) == count
    assert post(proxy, bytes(LIMITS.body_bytes)) == 200


def test_only_what_is_needed_is_offered(proxy: tuple[str, Path]) -> None:
    url, certificate = proxy

    def get(path: str) -> int:
        return requests.get(url + path, auth=("ann", "secret"), verify=str(certificate), timeout=30).status_code

    assert get("/ping") == 200
    assert get("/invocations") == 403
    for path in ("/", "/docs", "/openapi.json", "/version"):
        assert get(path) == 404


def test_a_flood_is_slowed_down(proxy: tuple[str, Path]) -> None:
    url, certificate = proxy
    with requests.Session() as session:
        session.auth = ("ann", "secret")
        # Not session.verify: the environment's bundle of certificates would count more.
        codes = [
            session.post(f"{url}/invocations", data=b"{}", timeout=30, verify=str(certificate)).status_code
            for _ in range(120)
        ]
    assert set(codes) == {200, 429}
