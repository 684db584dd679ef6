"""A served predictor against the bare model and an empty one, on this machine, in one run.

    python benchmarks/serve.py [--backbone iresnet18] [--runtime torch|onnx] [--seconds 60] [--requests 200]
        [--rounds 3] [--json]

A model with random weights is registered in a store of its own and served by ``mlflow models serve``; so is a model
that answers with nothing. Client and server share the cores. Rounds alternate between the contenders, the median
counts, and what is claimed are ratios:

- one pair per request, one connection: p50 at most the empty model's p50 + 1.3 times the model's time for two pictures;
- 64 pairs per request: at least 0.85 of the pictures per second of the bare model at that batch;
- 16 connections: no error, p99 under 5 times p50, the server's memory grows by less than 50 MB;
- two workers: a request to the empty model takes at most 40 ms more than with one.

"The model" is the forward pass alone, mirror images included: no decoding, no base64, no JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from claims import Claim, Target, absolute, ratio, show, side

from facerec.config.load import config_from_dict
from facerec.data.synthetic import draw_identity
from facerec.evaluation.embed import embed_pixels
from facerec.fsio import write_manifest
from facerec.models.build import build_backbone
from facerec.serving.embedder import OnnxBackbone
from facerec.serving.register import register
from facerec.serving.weights import weights_as_bytes
from tests.serving.models import Served, encode_jpeg_text, serve

_SIDE = 112
_PAIRS = 64
_EMPTY = """
import mlflow
import pandas as pd


class Empty(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None):
        return [{"similarity": 0.0}] * len(model_input)


mlflow.models.set_model(Empty())
"""


class Round(NamedTuple):
    """What one round gives."""

    pair_ms: float
    """p50 of a request with one pair."""
    empty_ms: float
    """p50 of the same request to the empty model."""
    bare_ms: float
    """The model alone, for two pictures."""
    batch_rate: float
    """Pictures per second of requests with many pairs."""
    bare_rate: float
    """The model alone at that batch."""


def main() -> None:
    """Measure and print the table."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        uri = f"sqlite:///{folder}/mlflow.db"
        os.environ["MLFLOW_TRACKING_URI"] = uri
        model = make_model(Path(folder), arguments.backbone, arguments.runtime)
        claims = measure(arguments, model, uri, Path(folder))
    facts = {
        "model": f"{arguments.backbone}, {arguments.runtime}, mirror images included",
        "threads of torch": torch.get_num_threads(),
    }
    print(show(claims, facts, as_json=arguments.json))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--runtime", choices=["torch", "onnx"], default="torch")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the test with 16 connections")
    parser.add_argument("--requests", type=int, default=200, help="requests of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def make_model(folder: Path, backbone_name: str, runtime: str) -> torch.nn.Module:
    """Register a model with random weights as ``bench`` and the empty one as ``empty``; returns the backbone."""
    import mlflow

    plain = {"model": {"backbone": backbone_name}, "data": {"img_size": _SIDE}}
    config = config_from_dict(plain)
    backbone = build_backbone(config.model, image_hw=config.image_hw).eval()
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(weights_as_bytes(backbone))
    (checkpoint / "state.json").write_text(json.dumps({"config": plain}))
    write_manifest(checkpoint, format=1)
    register(str(checkpoint), name="bench", runtime=runtime, device="cpu")
    (folder / "empty_model.py").write_text(_EMPTY)
    from facerec.serving.signature import predictor_signature

    mlflow.pyfunc.log_model(
        name="empty",
        python_model=str(folder / "empty_model.py"),
        signature=predictor_signature(),
        registered_model_name="empty",
        pip_requirements=["mlflow"],
    )
    return backbone.to(memory_format=torch.channels_last)


def measure(arguments: argparse.Namespace, backbone: torch.nn.Module, uri: str, folder: Path) -> list[Claim]:
    """Everything that the table shows."""
    texts = [encode_jpeg_text(draw_identity(number, side=_SIDE)) for number in range(2 * _PAIRS)]
    runner = bare_runner(arguments.runtime, backbone, folder)
    one, many = body(texts[:2]), body(texts)
    with (
        serve("models:/bench/1", tracking_uri=uri, log=folder / "bench.log") as bench,
        serve("models:/empty/1", tracking_uri=uri, log=folder / "empty.log") as empty,
    ):
        for server in (bench, empty):
            request_times(server, one, count=20)
        rounds = [one_round(arguments, runner, bench, empty, one, many) for _ in range(arguments.rounds)]
        load = under_load(bench, one, seconds=arguments.seconds)
    # The empty model: with the real one a worker of two computes on half of the cores.
    with serve("models:/empty/1", tracking_uri=uri, log=folder / "two.log", workers=2) as two:
        request_times(two, one, count=20)
        two_ms = [p50_ms(two, one, count=arguments.requests) for _ in range(arguments.rounds)]
    beyond_ms = [served - part.empty_ms for served, part in zip(two_ms, rounds, strict=True)]
    texts = f"{statistics.median(two_ms):.1f} ms, one worker {statistics.median(p.empty_ms for p in rounds):.1f} ms"
    name = "two workers, an empty model: p50 beyond one worker's"
    return [
        *claims_of(rounds),
        *claims_under_load(load, seconds=arguments.seconds),
        absolute(name, beyond_ms, unit="ms", target=Target(at_most=40), note=texts),
    ]


def claims_of(rounds: list[Round]) -> list[Claim]:
    """One pair per request, and many."""
    pairs, allowed = [part.pair_ms for part in rounds], [part.empty_ms + 1.3 * part.bare_ms for part in rounds]
    empty, bare = (statistics.median(column) for column in ([p.empty_ms for p in rounds], [p.bare_ms for p in rounds]))
    batch_rates, bare_rates = [part.batch_rate for part in rounds], [part.bare_rate for part in rounds]
    return [
        ratio(
            "one pair per request: p50",
            pairs,
            to=allowed,
            ours=side(pairs, "ms"),
            other=side(allowed, "ms"),
            against=f"an empty model's p50 ({empty:.1f} ms) + 1.3 x the bare model ({bare:.1f} ms)",
            target=Target(at_most=1),
        ),
        ratio(
            f"{_PAIRS} pairs per request: pictures/s",
            batch_rates,
            to=bare_rates,
            ours=side(batch_rates, "pictures/s"),
            other=side(bare_rates, "pictures/s"),
            against="the bare model at that batch",
            target=Target(at_least=0.85),
        ),
    ]


def claims_under_load(load: dict[str, float], *, seconds: float) -> list[Claim]:
    """Sixteen connections that ask without a pause."""
    name = f"16 connections for {seconds:.0f} s"
    rate = f"{load['requests_per_s']:.1f} requests/s"
    p99, p50 = load["p99_ms"], load["p50_ms"]
    return [
        absolute(f"{name}: errors", [load["errors"]], unit="errors", target=Target(at_most=0), note=rate),
        ratio(
            f"{name}: p99",
            [p99],
            to=[p50],
            ours=f"{p99:.0f} ms",
            other=f"{p50:.0f} ms",
            against="p50",
            target=Target(at_most=5),
        ),
        absolute(f"{name}: growth of memory", [load["rss_growth_mb"]], unit="MB", target=Target(at_most=50)),
    ]


def bare_runner(runtime: str, backbone: torch.nn.Module, folder: Path) -> Any:
    """A function that embeds pictures (B, H, W, 3) and their mirror images in the runtime that is served."""
    if runtime == "onnx":
        (graph,) = folder.glob("mlruns/*/models/*/artifacts/artifacts/predictor/model.onnx")
        session = OnnxBackbone(graph)
        return lambda pixels: session(pixels, flip=True)
    return lambda pixels: embed_pixels(backbone, pixels, device=torch.device("cpu"), flip=True)


def one_round(
    arguments: argparse.Namespace, runner: Any, bench: Served, empty: Served, one: bytes, many: bytes
) -> Round:
    """One turn of all contenders."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * _PAIRS, _SIDE, _SIDE, 3), np.uint8)
    two, batch = pixels[:2], pixels[:64]
    single = p50_ms(bench, one, count=arguments.requests)
    bare_two = statistics.median(call_times(lambda: runner(two), count=arguments.requests)) * 1e3
    nothing = p50_ms(empty, one, count=arguments.requests)
    count = max(2, arguments.requests // 40)
    batch_rate = 2 * _PAIRS / statistics.median(request_times(bench, many, count=count))
    bare_rate = len(batch) / statistics.median(call_times(lambda: runner(batch), count=2 * count))
    return Round(single, nothing, bare_two, batch_rate, bare_rate)


def p50_ms(server: Served, content: bytes, *, count: int) -> float:
    """The median of request times in milliseconds."""
    return statistics.median(request_times(server, content, count=count)) * 1e3


def body(texts: Sequence[str]) -> bytes:
    """A request that compares neighbours."""
    pairs = zip(texts[::2], texts[1::2], strict=True)
    rows = [{"image_a": a, "image_b": b} for a, b in pairs]
    return json.dumps({"dataframe_records": rows, "params": {"threshold": 0.3}}).encode()


def call_times(call: Any, *, count: int) -> list[float]:
    """Seconds of each call, after one more."""
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def request_times(server: Served, content: bytes, *, count: int) -> list[float]:
    """Seconds of each request over one connection that stays open."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        status, answer = post(connection, content)
        times.append(time.perf_counter() - start)
        assert status == 200, answer
    connection.close()
    return times


def post(connection: http.client.HTTPConnection, content: bytes) -> tuple[int, bytes]:
    """Send one request and read the answer."""
    connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def under_load(server: Served, content: bytes, *, seconds: float, connections: int = 16) -> dict[str, float]:
    """What 16 connections see that ask without a pause."""
    times: list[float] = []
    errors: list[str] = []
    # Warmed by the same load: threads and their memory come with the first requests.
    drive(
        server,
        content,
        until=time.monotonic() + min(10.0, seconds / 4),
        connections=connections,
        times=[],
        errors=errors,
    )
    before = server.rss()
    start = time.monotonic()
    drive(server, content, until=start + seconds, connections=connections, times=times, errors=errors)
    spent = time.monotonic() - start
    ordered = sorted(times)
    return {
        "requests_per_s": round(len(times) / spent, 1),
        "p50_ms": round(ordered[len(ordered) // 2] * 1e3, 2),
        "p99_ms": round(ordered[int(0.99 * len(ordered))] * 1e3, 2),
        "errors": len(errors),
        "rss_growth_mb": round((server.rss() - before) / 1e6, 1),
    }


def drive(
    server: Served, content: bytes, *, until: float, connections: int, times: list[float], errors: list[str]
) -> None:
    """Ask from ``connections`` threads until the time is up."""

    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                status, answer = post(connection, content)
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            times.append(time.perf_counter() - start)
            if status != 200 or b'"error": null' not in answer:
                errors.append(answer[:200].decode(errors="replace"))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
