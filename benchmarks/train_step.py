"""A whole training step (backbone, head, loss, backward, update) against arcface_torch's, as ratios.

    python benchmarks/train_step.py [--peer PATH] [--device cuda|cpu] [--backbone NAME] [--batch N…] [--classes N]
        [--rounds N] [--threads N] [--only CONTENDER…] [--json]

PATH is a checkout's folder ``recognition/arcface_torch``; its backbone, margin loss and PartialFC are imported from
there and updated as its ``train_v2.py`` does it, without the wrapper for several GPUs. Everything is in memory before
the first step: no data is loaded.

On CUDA (batches of 128 and 1,024, iresnet50, 93,431 classes) the peer runs in its own precision, float16 by autocast
with a loss scaler, and ours in bfloat16, channels last, compiled. The contenders run one after the other, the peak is
torch's own count, and the time is that of the clock. On a CPU (iresnet18) the peer runs in float32, as it does there,
ours in float32 and in bfloat16; the contenders take turns, each in a process of its own, and the time is processor time
summed over the threads, on which neighbours have little influence. Medians of the rounds, after two steps that are not
counted.

"of the matmul rate" is the arithmetic of backbone and head, 6 operations for each multiply-accumulate of the forward
pass, against what a large bfloat16 product reaches here in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
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

from facerec.config.load import config_from_dict
from facerec.config.schema import Config
from facerec.models.build import build_backbone
from facerec.models.measure import measure as measure_model
from facerec.training.assembly import assemble
from facerec.training.distributed import World

_PEER_NAMES = {"iresnet18": "r18", "iresnet34": "r34", "iresnet50": "r50", "iresnet100": "r100", "iresnet200": "r200"}
_UNCOUNTED = 2
_EMBEDDING = 512
_TARGETED = "ours bf16 compiled"
"""On CUDA the contender that the targets are for."""

Step = Callable[[], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the step."""

    name: str
    training: dict[str, Any] | None
    """The settings under ``training``; null for the peer."""


CONTENDERS = {
    "cuda": [
        Contender(name="peer", training=None),
        Contender(name="ours bf16 compiled", training={"amp": True, "compile": True, "tf32": True}),
        Contender(name="ours bf16", training={"amp": True, "tf32": True}),
    ],
    "cpu": [
        Contender(name="peer", training=None),
        Contender(name="ours float32", training={"amp": False}),
        Contender(name="ours bf16", training={"amp": True}),
    ],
}


def main() -> None:
    """Measure the contenders at every batch size and print a table for each."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.process:
        step_on_request(arguments)
        return
    rate = matmul_rate(torch.device(arguments.device))
    results = [measure(arguments, batch, rate) for batch in arguments.batch]
    if arguments.json:
        claims = [claim for found in results for claim in claims_of(found, arguments)]
        print(show(claims, settings(arguments) | {"bfloat16 matmul FLOP/s": rate}, as_json=True))
        return
    print(", ".join(f"{key} {value}" for key, value in settings(arguments).items()))
    print(f"bfloat16 matmul rate {rate / 1e12:.3g} TFLOP/s")
    for found in results:
        print(table(found))
    if arguments.peer is None:
        print("peer: not given (--peer PATH)")


def parse() -> argparse.Namespace:
    """The arguments, with the defaults of the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", choices=sorted(_PEER_NAMES))
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", help="names of contenders")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    on_cuda = arguments.device == "cuda"
    arguments.backbone = arguments.backbone or ("iresnet50" if on_cuda else "iresnet18")
    arguments.batch = arguments.batch or ([128, 1024] if on_cuda else [16])
    arguments.classes = arguments.classes or (93_431 if on_cuda else 10_572)
    arguments.rounds = arguments.rounds or (30 if on_cuda else 5)
    return arguments


def settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What was measured, and where."""
    on_cuda = arguments.device == "cuda"
    place = torch.cuda.get_device_name() if on_cuda else f"CPU, {arguments.threads} threads"
    names = ("backbone", "classes", "rounds")
    return {name: getattr(arguments, name) for name in names} | {"device": place, "torch": torch.__version__}


def measure(arguments: argparse.Namespace, batch: int, rate: float) -> dict[str, Any]:
    """Seconds, images per second and peak memory of every contender at one batch size."""
    contenders = [
        contender
        for contender in CONTENDERS[arguments.device]
        if (contender.training is not None or arguments.peer is not None)
        and (not arguments.only or contender.name in arguments.only)
    ]
    run = one_after_the_other if arguments.device == "cuda" else in_turns
    seconds, peaks = run(arguments, contenders, batch)
    config = our_config(arguments, contenders[-1], batch)
    with torch.device("meta"):
        macs = measure_model(build_backbone(config.model, image_hw=(112, 112)), image_hw=(112, 112)).macs
    operations = 6 * batch * (macs + _EMBEDDING * arguments.classes)
    return {
        "batch": batch,
        "contenders": {
            name: {
                "s": statistics.median(times),
                "images_per_s": batch / statistics.median(times),
                "of_matmul_rate": operations / statistics.median(times) / rate,
                "peak_mib": peaks.get(name, float("nan")) / 2**20,
                "rounds": times,
            }
            for name, times in seconds.items()
        },
    }


def claims_of(found: dict[str, Any], arguments: argparse.Namespace) -> list[Claim]:
    """The speed of each of our ways against the peer's, and on CUDA the peak of memory."""
    rows, batch = found["contenders"], found["batch"]
    peer = rows.get("peer", {"rounds": [], "peak_mib": float("nan")})
    claims = []
    for name, row in rows.items():
        if name == "peer":
            continue
        what = f"{arguments.backbone}, batch {batch}, {name.removeprefix('ours ')}"
        note = f"{row['of_matmul_rate']:.2f} of the bfloat16 matmul rate; seconds are of a step"
        texts = {"ours": side(row["rounds"], "s"), "other": side(peer["rounds"], "s"), "against": "arcface_torch"}
        target = speed_target(name, arguments.device)
        speed = ratio(
            f"{what}: speed", peer["rounds"] or row["rounds"], to=row["rounds"], target=target, note=note, **texts
        )
        claims.append(speed if peer["rounds"] else dataclasses.replace(speed, value=None, peer_given=False))
        if arguments.device == "cuda":
            peaks = [row["peak_mib"]], [peer["peak_mib"]] if peer["rounds"] else []
            texts = {"ours": side(peaks[0], "MiB"), "other": side(peaks[1], "MiB"), "against": "arcface_torch"}
            memory = Target(at_most=0.7) if name == _TARGETED else None
            claims.append(ratio(f"{what}: peak of memory", peaks[0], to=peaks[1], target=memory, **texts))
    return claims


def speed_target(name: str, device: str) -> Target | None:
    """How many times the peer's speed is asked for; none in bfloat16 where the processor does not compute in it."""
    if device == "cuda":
        return Target(at_least=2) if name == _TARGETED else None
    if name == "ours float32":
        return Target(at_least=1.25)
    flags = Path("/proc/cpuinfo")
    known = flags.read_text() if flags.exists() else ""
    return Target(at_least=2.8) if "avx512_bf16" in known or "amx_bf16" in known else None


def one_after_the_other(
    arguments: argparse.Namespace, contenders: list[Contender], batch: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """On CUDA: each contender alone on the device, so that its peak is its own."""
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for contender in contenders:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step = build(arguments, contender, batch)
        times = [timed(step, arguments.device) for _ in range(_UNCOUNTED + arguments.rounds)]
        seconds[contender.name] = times[_UNCOUNTED:]
        peaks[contender.name] = torch.cuda.max_memory_allocated()
        del step
    return seconds, peaks


def in_turns(
    arguments: argparse.Namespace, contenders: list[Contender], batch: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """On a CPU: one step of each contender after the other, again and again."""
    processes = {contender.name: start(contender, batch) for contender in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    try:
        for number in range(_UNCOUNTED + arguments.rounds):
            for name, process in processes.items():
                spent = ask(process, name)
                if number >= _UNCOUNTED:
                    seconds[name].append(spent)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return seconds, {}


def start(contender: Contender, batch: int) -> subprocess.Popen[str]:
    """A process that does a step for every line that it gets."""
    command = [sys.executable, __file__, *sys.argv[1:], "--process", contender.name, "--batch", str(batch)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], name: str) -> float:
    """Have one step done; returns its seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{name}: its process has ended; its message stands above")
    return float(line)


def step_on_request(arguments: argparse.Namespace) -> None:
    """The other side of `ask`."""
    (contender,) = (one for one in CONTENDERS[arguments.device] if one.name == arguments.process)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints must not stand among the answers.
    step = build(arguments, contender, arguments.batch[0])
    for _ in sys.stdin:
        answers.write(f"{timed(step, arguments.device)}\n")
        answers.flush()


def timed(step: Step, device: str) -> float:
    """Seconds of one step."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    started = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def build(arguments: argparse.Namespace, contender: Contender, batch: int) -> Step:
    """The step of a contender on one batch of noise."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (batch, 112, 112, 3), dtype=torch.uint8, device=arguments.device)
    images_BCHW = images.permute(0, 3, 1, 2)
    labels_B = torch.randint(arguments.classes, (batch,), device=arguments.device)
    if contender.training is None:
        return peer_step(arguments, images_BCHW.float().sub(127.5).div(127.5).contiguous(), labels_B)
    config, device = our_config(arguments, contender, batch), torch.device(arguments.device)
    parts = assemble(config, num_classes=arguments.classes, device=device, world=World())
    parts.model.train()
    counter = iter(range(1_000_000))

    def step() -> None:
        parts.step(images_BCHW, labels_B, step=next(counter))

    return step


def our_config(arguments: argparse.Namespace, contender: Contender, batch: int) -> Config:
    """Our configuration with the peer's recipe."""
    recipe = {"lr": 0.02, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "grad_clip_part": "backbone"}
    return config_from_dict(
        {
            "device": arguments.device,
            "model": {"backbone": arguments.backbone, "embedding_size": _EMBEDDING},
            "head": {"type": "arcface", "num_classes": arguments.classes},
            "data": {"batch_size": batch},
            "training": {**recipe, **(contender.training or {})},
        }
    )


def peer_step(arguments: argparse.Namespace, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> Step:
    """The peer's step, as its ``train_v2.py`` writes it, for one GPU."""
    sys.path.insert(0, str(arguments.peer))
    from backbones import get_model  # pyrefly: ignore
    from losses import CombinedMarginLoss  # pyrefly: ignore
    from partial_fc_v2 import PartialFC_V2  # pyrefly: ignore

    warnings.simplefilter("ignore", FutureWarning)
    on_cuda = arguments.device == "cuda"
    if not on_cuda:
        torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign]
    join_alone("nccl" if on_cuda else "gloo")
    name = _PEER_NAMES[arguments.backbone]
    backbone = get_model(name, dropout=0.0, fp16=on_cuda, num_features=_EMBEDDING).to(arguments.device).train()
    margin = CombinedMarginLoss(64, 1.0, 0.5, 0.0)
    head = PartialFC_V2(margin, _EMBEDDING, arguments.classes, 1.0, False).train().to(arguments.device)
    groups = [{"params": backbone.parameters()}, {"params": head.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler(arguments.device, growth_interval=100, enabled=on_cuda)

    def step() -> None:
        loss = head(backbone(images_BCHW), labels_B)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def join_alone(backend: str) -> None:
    """The process group of one that the peer's head asks for."""
    if not torch.distributed.is_initialized():
        store = Path(tempfile.mkdtemp()) / "store"
        torch.distributed.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)


def matmul_rate(device: torch.device) -> float:
    """Operations per second of a large bfloat16 product, the best of some."""
    side = 8192 if device.type == "cuda" else 2048
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def product() -> None:
        torch.mm(left, left)

    return 2 * side**3 / min(timed(product, device.type) for _ in range(10 if device.type == "cuda" else 4))


def table(found: dict[str, Any]) -> str:
    """Numbers, and ratios to the peer where it is there."""
    rows = found["contenders"]
    base = rows.get("peer")
    lines = [f"batch {found['batch']}"]
    lines.append(
        f"{'':22}{'s/step':>9}{'images/s':>10}{'ratio':>7}{'of the matmul rate':>20}{'peak MiB':>10}{'ratio':>7}"
    )
    for name, row in rows.items():
        speed = row["images_per_s"] / base["images_per_s"] if base else float("nan")
        memory = row["peak_mib"] / base["peak_mib"] if base else float("nan")
        lines.append(
            f"{name:22}{row['s']:9.3f}{row['images_per_s']:10.1f}{speed:7.2f}{row['of_matmul_rate']:20.3f}"
            f"{row['peak_mib']:10.0f}{memory:7.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
