"""A small model as a checkpoint, a registry with it in, and a server that serves it."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
import simplejpeg
import torch
from numpy.typing import NDArray

from facerec.config.load import config_from_dict
from facerec.fsio import write_manifest
from facerec.models.build import build_backbone
from facerec.serving.weights import weights_as_bytes
from tests.packs import draw, encode_png

__all__ = ["SIDE", "Served", "encode_jpeg_text", "face", "serve", "text_of", "write_checkpoint"]

SIDE = 32


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    bins: list[str] | None = None,
    root: Path | None = None,
    noise: float = 0.0,
    backbone: str = "iresnet_mini",
) -> Path:
    """A checkpoint folder of a small model with random weights, which tell drawn pictures apart well enough.

    ``noise`` spoils the weights of the last layer, and with it the model.
    """
    plain = {
        "model": {"backbone": backbone, "embedding_size": 32},
        "data": {"img_size": SIDE, **({"root": str(root)} if root else {})},
        "eval": {"test_batch_size": 16, **({"bin_file": bins} if bins else {})},
    }
    config = config_from_dict(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone(config.model, image_hw=config.image_hw).eval()
        if noise:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(noise * torch.randn_like(parameter))
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights_as_bytes(network))
    (folder / "state.json").write_text(json.dumps({"config": plain, "num_classes": 8}))
    write_manifest(folder, format=1)
    return folder


def face(identity: int, picture: int = 0, *, side: int = SIDE) -> bytes:
    """PNG of a drawn picture."""
    return encode_png(draw(identity, picture, side=side))


def encode_jpeg_text(pixels_HWC: NDArray[np.uint8]) -> str:
    """Base64 of a JPEG."""
    return text_of(simplejpeg.encode_jpeg(pixels_HWC, quality=90))


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    url: str
    process: psutil.Process
    log: Path

    def post(self, body: Any, *, timeout: float = 60, **headers: str) -> requests.Response:
        """Send a body, as JSON where it is no bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers}
        return requests.post(f"{self.url}/invocations", data=data, headers=sent, timeout=timeout)

    def ask(self, *rows: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
        response = self.post({"dataframe_records": list(rows), "params": params})
        assert response.status_code == 200, response.text
        return response.json()["predictions"]

    def rss(self) -> int:
        """Memory of the server and its workers, in bytes."""
        return sum(process.memory_info().rss for process in self._family())

    def forget_peak(self) -> None:
        """Let `peak` count from now on."""
        for process in self._family():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most memory that the server and its workers have had since `forget_peak`, in bytes."""
        found = 0
        for process in self._family():
            status = Path(f"/proc/{process.pid}/status").read_text()
            found += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return 1024 * found

    def _family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def serve(model_uri: str, *, tracking_uri: str, log: Path, workers: int = 1) -> Iterator[Served]:
    """Run ``mlflow models serve`` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        model_uri,
        "--env-manager",
        "local",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "-w", str(workers)],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, log)
        yield Served(url=url, process=psutil.Process(process.pid), log=log)
    finally:
        _stop(process)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            if requests.get(f"{url}/ping", timeout=2).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=15)
    for member in alive:
        member.kill()
    process.wait(timeout=15)
