"""Memory and time of the head: the fused loss against the plain one, a sampled one, and arcface_torch's PartialFC.

    python benchmarks/head.py [--device cuda|cpu] [--classes N] [--batch N] [--dim N] [--head NAME] [--chunk-mib N]
        [--repeats N] [--peer PATH] [--json]

One forward and backward pass of the head alone, in float32, each contender in a process of its own. On CUDA the
defaults are 1,000,000 classes, a batch of 1,024, 512 dimensions, and the peak is torch's own count; on a CPU they are
100,000 classes and a chunk that is smaller by as much, and the peak is the largest resident set of the process above
that before the head was made. The peak holds the weight and its gradient, which no loss can avoid and which
"beyond" leaves out. PATH is a checkout's folder ``recognition/arcface_torch``, whose ``losses.py`` and
``partial_fc_v2.py`` are imported from there; they want CUDA, so on a CPU ``.cuda()`` leaves tensors where they are.
The time is the median of the repeats after one more; on a CPU it is processor time, on which neighbours have little
influence, summed over the threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from claims import Claim, Target, ratio, show, side
from torch import Tensor, nn

from facerec.models.classification import ClassificationLoss, LossSettings
from facerec.models.fused import DEFAULT_CHUNK_MIB
from facerec.registry import HEADS

_CONTENDERS = ("plain", "fused", "fused, sample 0.1", "plain, sample 0.1", "peer", "peer, sample 0.1")
_CLASSES = {"cuda": 1_000_000, "cpu": 100_000}
_MARGINS = {"arcface": (1.0, 0.5, 0.0), "cosface": (1.0, 0.0, 0.4)}
"""The heads that the peer has, as its three margins."""

Step = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Measure every contender in its own process, then print the table."""
    arguments = parse()
    if arguments.contender:
        print(json.dumps(measure(arguments)))
        return
    results = {name: run(name) for name in contenders(arguments)}
    if arguments.json:
        print(show(claims_of(results, arguments), settings(arguments), as_json=True))
        return
    print(", ".join(f"{key} {value}" for key, value in settings(arguments).items()))
    print(table(results))
    if arguments.peer is None:
        print("peer: not given (--peer PATH)")
    elif arguments.head not in _MARGINS:
        print(f"peer: has no {arguments.head}")


def parse() -> argparse.Namespace:
    """The arguments, with the defaults of the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--head", choices=HEADS.names(), default="arcface")
    parser.add_argument("--chunk-mib", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contender", choices=_CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.classes = arguments.classes or _CLASSES[arguments.device]
    if arguments.chunk_mib is None:
        share = arguments.classes / _CLASSES["cuda"]
        arguments.chunk_mib = max(1, min(DEFAULT_CHUNK_MIB, round(DEFAULT_CHUNK_MIB * share)))
    return arguments


def settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What was measured, and where."""
    card = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    names = ("head", "classes", "batch", "dim", "chunk_mib", "repeats")
    return {name: getattr(arguments, name) for name in names} | {"device": card, "torch": torch.__version__}


def claims_of(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> list[Claim]:
    """Time and memory of the fused loss against the plain one and the peer's, and with a sample of the classes."""
    pairs = [("fused", "plain"), ("fused", "peer"), ("fused, sample 0.1", "peer, sample 0.1")]
    claims = []
    for name, base in pairs:
        mine, other = results[name], results.get(base)
        against = base.replace("peer", "arcface_torch's PartialFC") if base != "plain" else "the plain loss"
        on_cuda = arguments.device == "cuda" and base == "plain"
        for what, key, unit, bound in (("time", "rounds", "s", 1.2), ("peak of memory", "peak_mib", "MiB", 0.25)):
            ours, others = (in_rounds(found, key) for found in (mine, other))
            texts = {"ours": side(ours, unit), "other": side(others, unit), "against": against}
            target = Target(at_most=bound) if on_cuda else None
            claims.append(ratio(f"{name}: {what}", ours, to=others, target=target, **texts))
    return claims


def in_rounds(found: dict[str, Any] | None, key: str) -> list[float]:
    """A figure of every round; empty for a contender that is not there."""
    if found is None:
        return []
    return found[key] if isinstance(found[key], list) else [found[key]]


def contenders(arguments: argparse.Namespace) -> list[str]:
    """Those that can run."""
    has_peer = arguments.peer is not None and arguments.head in _MARGINS
    return [name for name in _CONTENDERS if has_peer or not name.startswith("peer")]


def run(name: str) -> dict[str, Any]:
    """Measure one contender in its own process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--contender", name]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{name} failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory, memory beyond the weight and its gradient, and seconds of a step of one contender."""
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    embeddings_BD = torch.randn(arguments.batch, arguments.dim, device=device)
    labels_B = torch.randint(arguments.classes, (arguments.batch,), device=device)
    warm_up(device)
    before = reset_peak(device)
    step, weight = build(arguments)
    seconds = []
    for _ in range(arguments.repeats + 1):
        weight.grad = None
        start = now(device)
        step(embeddings_BD.detach().requires_grad_(), labels_B.clone()).backward()
        seconds.append(now(device) - start)
    peak = read_peak(device) - before
    unavoidable = 2 * weight.numel() * weight.element_size()
    spent = {"s": statistics.median(seconds[1:]), "rounds": seconds[1:]}
    return {"peak_mib": peak / 2**20, "beyond_mib": (peak - unavoidable) / 2**20, **spent}


def build(arguments: argparse.Namespace) -> tuple[Step, nn.Parameter]:
    """The loss as a function, and the weight that it updates."""
    kind, _, sample = arguments.contender.partition(", sample ")
    rate = float(sample or 1.0)
    if kind == "peer":
        return build_peer(arguments, rate)
    head = (
        HEADS.entry(arguments.head)
        .load()(embedding_size=arguments.dim, num_classes=arguments.classes, scale=64.0)
        .to(arguments.device)
    )
    loss_settings = LossSettings(fused=kind == "fused", sample_rate=rate, chunk_mib=arguments.chunk_mib)
    loss = ClassificationLoss(head, loss_settings)
    return lambda embeddings_BD, labels_B: loss(embeddings_BD, labels_B).loss, head.weight


def build_peer(arguments: argparse.Namespace, rate: float) -> tuple[Step, nn.Parameter]:
    """PartialFC of the peer's checkout, in one process."""
    sys.path.insert(0, str(arguments.peer))
    from losses import CombinedMarginLoss  # pyrefly: ignore
    from partial_fc_v2 import PartialFC_V2  # pyrefly: ignore

    warnings.simplefilter("ignore", FutureWarning)
    if arguments.device == "cpu":
        torch.Tensor.cuda = lambda self: self
    backend = "nccl" if arguments.device == "cuda" else "gloo"
    store = Path(tempfile.mkdtemp()) / "store"
    torch.distributed.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)
    m1, m2, m3 = _MARGINS[arguments.head]
    module = PartialFC_V2(
        CombinedMarginLoss(64.0, m1, m2, m3), arguments.dim, arguments.classes, sample_rate=rate, fp16=False
    ).to(arguments.device)
    return module, module.weight


def warm_up(device: torch.device) -> None:
    """Load what the first product and the first backward pass load."""
    left = torch.randn(256, 256, device=device, requires_grad=True)
    (left @ left).logsumexp(1).sum().backward()


def now(device: torch.device) -> float:
    """Seconds, after all work that was asked for."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def reset_peak(device: torch.device) -> int:
    """Forget the peak so far; returns the bytes in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def read_peak(device: torch.device) -> int:
    """The most bytes in use since `reset_peak`."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else status_bytes("VmHWM")


def status_bytes(key: str) -> int:
    """A line of ``/proc/self/status``, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def table(results: dict[str, dict[str, Any]]) -> str:
    """Numbers, and ratios to the plain loss."""
    plain = results["plain"]
    header = f"{'':20}{'peak MiB':>10}{'ratio':>8}{'beyond MiB':>12}{'ratio':>8}{'s':>9}{'ratio':>8}"
    lines = [header]
    for name, found in results.items():
        cells = f"{name:20}"
        for key, width, digits in (("peak_mib", 10, 0), ("beyond_mib", 12, 0), ("s", 9, 3)):
            cells += f"{found[key]:{width}.{digits}f}{found[key] / plain[key]:8.3f}"
        lines.append(cells)
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    main()
