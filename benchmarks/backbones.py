"""Light backbones at equal training: the same pictures, epochs, batches, seeds and schedule for each.

    python benchmarks/backbones.py --data DATA --out OUT [--backbones A,B] [--seeds 1,2] [--epochs 6] [--min-images 4]
        [--image-size 112]
    python benchmarks/backbones.py --latency [--backbones A,B] [--rounds 15] [--json]

DATA holds ``train.rec`` and ``lfw_dev.bin`` (another pair set: ``--bin``). People with fewer pictures than
``--min-images`` are left out: they teach little and cost as much. A finished training in OUT is not repeated, so the
command can be stopped and given again. The table gives accuracy as mean and standard deviation over the seeds (over
the ten folds where there is one seed), and the time of one picture in evaluation mode on one CPU thread, float32,
deployed (`fuse`), relative to the first backbone. ``--latency`` measures that time alone and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import Claim, Target, absolute, ratio, show, side

from facerec.config import config_from_dict
from facerec.data.pack import FacePack
from facerec.data.recordio import RecordWriter, build_image_record
from facerec.models.build import build_backbone
from facerec.models.measure import measure

_IMAGE_HW = (112, 112)
_EMBEDDING_SIZE = 512


def main() -> None:
    """Train what is missing, then print the table."""
    arguments = parse()
    if arguments.latency:
        print(show(latency_claims(arguments.backbones, arguments.rounds), {}, as_json=arguments.json))
        return
    pack = make_pack(arguments.data, arguments.out, pair_set=arguments.bin, min_images=arguments.min_images)
    jobs = [(seed, name) for seed in arguments.seeds for name in arguments.backbones]
    results = {(seed, name): train(name, seed=seed, pack=pack, arguments=arguments) for seed, name in jobs}
    print(table(results, arguments))


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bin", default="lfw_dev.bin")
    names = ["mobilefacenet", "fastcontextface", "fastcontextface_v2"]
    parser.add_argument("--backbones", type=lambda text: text.split(","), default=names)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--min-images", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=_IMAGE_HW[0], help="of the training; the sizes are at 112")
    parser.add_argument("--latency", action="store_true", help="measure the latencies and nothing else")
    parser.add_argument("--rounds", type=int, default=15, help="of the latencies")
    parser.add_argument("--json", action="store_true", help="with --latency")
    arguments = parser.parse_args()
    if not arguments.latency and (arguments.data is None or arguments.out is None):
        parser.error("--data and --out are needed, or --latency")
    return arguments


def latency_claims(names: list[str], rounds: int) -> list[Claim]:
    """The latency of every backbone against the first one's, and its size."""
    times = measure_latencies(names, rounds=rounds)
    base_ms, claims = [1000 * seconds for seconds in times[names[0]]], []
    for name in names[1:]:
        ours_ms = [1000 * seconds for seconds in times[name]]
        texts = {"ours": side(ours_ms, "ms"), "other": side(base_ms, "ms"), "against": names[0]}
        claims.append(
            ratio(f"{name}: latency of one picture, one thread, float32, fused", ours_ms, to=base_ms, **texts)
        )
    if "fastcontextface_v2" in names:
        macs = measure(build("fastcontextface_v2"), image_hw=_IMAGE_HW).macs / 1e6
        claims.append(absolute("fastcontextface_v2: size", [macs], unit="MMACs", target=Target(at_most=310)))
    return claims


def make_pack(data: Path, out: Path, *, pair_set: str, min_images: int) -> Path:
    """Pack the people with at least ``min_images`` pictures, in the plain layout of one image per key."""
    folder = out / f"pack-{min_images}"
    if folder.exists():
        return folder
    unfinished = out / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    pack = FacePack.open(data, io="pread")
    labels = pack.labels()
    people, counts = np.unique(labels, return_counts=True)
    kept = {int(person): number for number, person in enumerate(people[counts >= min_images])}
    written = 0
    with RecordWriter(unfinished / "train.rec", unfinished / "train.idx") as writer:
        for key, label in zip(pack.image_keys.tolist(), labels.tolist(), strict=True):
            if label in kept:
                image = bytes(pack.read_image(key).image)
                writer.write(written, build_image_record(image, label=float(kept[label]), record_id=written))
                written += 1
    (unfinished / "property").write_text(f"{len(kept)},{_IMAGE_HW[0]},{_IMAGE_HW[1]}\n", encoding="ascii")
    shutil.copyfile(data / pair_set, unfinished / pair_set)
    print(f"{written} pictures of {len(kept)} people", file=sys.stderr)
    return unfinished.rename(folder)


def train(name: str, *, seed: int, pack: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one backbone in a process of its own; returns its last metrics."""
    folder = arguments.out / f"{name}-seed{seed}"
    if not (folder / "result.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        recipe = {
            "seed": seed,
            "device": "cpu",
            "model": {"backbone": name, "embedding_size": _EMBEDDING_SIZE, "dropout": _no_dropout(name)},
            "head": {"type": "cosface", "margin": 0.2, "scale": 32.0},
            "data": {
                "root": str(pack.resolve()),
                "batch_size": arguments.batch_size,
                "num_workers": 0,
                "img_size": arguments.image_size,
            },
            "training": {
                "epochs": arguments.epochs,
                "lr": arguments.lr,
                "scheduler": "cosine",
                "warmup_epochs": 0.5,
                "weight_decay": 5e-4,
            },
            "checkpoint": {"save_dir": str(folder.resolve() / "runs"), "keep_last_n": 1},
            "logging": {"log_dir": str(folder.resolve() / "logs"), "mlflow": False, "print_freq": 20},
            "eval": {"bin_file": arguments.bin, "eval_freq": arguments.epochs, "flip": False},
        }
        (folder / "config.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        start = time.monotonic()
        run_facerec("train", "--config", str(folder / "config.yaml"))
        (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir() and not path.is_symlink())
        result = {"wall_s": time.monotonic() - start, "summary": json.loads(run_facerec("summary", str(run), "--json"))}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _no_dropout(name: str) -> float | None:
    """Dropout is a matter of the recipe, not of the network, so none has it here."""
    from facerec.registry import BACKBONES

    return 0.0 if "dropout" in BACKBONES.entry(name).options else None


def run_facerec(*arguments: str) -> str:
    """Run the command line; its log goes to standard error."""
    done = subprocess.run([sys.executable, "-m", "facerec", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def table(results: dict[tuple[int, str], dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Markdown: one line a backbone."""
    names = arguments.backbones
    lines = [
        "| backbone | parameters | MACs | accuracy | ± | loss | latency |",
        "|---|---|---|---|---|---|---|",
    ]
    latencies = {name: min(seconds) for name, seconds in measure_latencies(names, rounds=arguments.rounds).items()}
    for name in names:
        mine = [result["summary"]["last"]["metrics"] for (_, other), result in results.items() if other == name]
        (key,) = (metric for metric in mine[0] if metric.startswith("eval/") and metric.endswith("/accuracy"))
        accuracies = [metrics[key] for metrics in mine]
        spread = statistics.stdev(accuracies) if len(mine) > 1 else mine[0][f"{key}_std"]
        size = measure(build(name), image_hw=_IMAGE_HW)
        lines.append(
            f"| `{name}` | {size.params / 1e6:.2f} M | {size.macs / 1e6:.0f} M | {statistics.mean(accuracies):.4f} | "
            f"{spread:.4f} | {statistics.mean(metrics['train/epoch_loss'] for metrics in mine):.3f} | "
            f"{latencies[name] / latencies[names[0]]:.2f} |"
        )
    return "\n".join(lines)


def build(name: str) -> Any:
    """The backbone, untrained."""
    config = config_from_dict({"model": {"backbone": name, "embedding_size": _EMBEDDING_SIZE}})
    return build_backbone(config.model, image_hw=_IMAGE_HW)


def measure_latencies(names: list[str], *, rounds: int) -> dict[str, list[float]]:
    """CPU time of a picture in evaluation mode in every round, s, one thread, the backbones taking turns."""
    torch.set_num_threads(1)
    image = torch.rand(1, 3, *_IMAGE_HW).contiguous(memory_format=torch.channels_last)
    networks = {name: build(name).eval().to(memory_format=torch.channels_last) for name in names}
    for network in networks.values():
        network.fuse()
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, network in networks.items():
                network(image)
                start = time.process_time()
                network(image)
                times[name].append(time.process_time() - start)
    return times


if __name__ == "__main__":
    main()
