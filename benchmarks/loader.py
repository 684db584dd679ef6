"""Loading training batches: CPU time per image against arcface_torch's way, and what a second worker gives.

    python benchmarks/loader.py [--data FOLDER] [--peer-arcface CHECKOUT --mxnet-python PYTHON] [--images 2560]
        [--rounds 7] [--json]

FOLDER is a pack; without it one of drawn pictures is made. CHECKOUT is the folder ``recognition/arcface_torch`` of
deepinsight/insightface, whose data set is used as it is, and PYTHON an interpreter that has mxnet 1.9.1, torch and
torchvision. Both sides take turns on the same images, on one thread each: from the record to a normalised float batch
of 128 with a random flip. The next line compares the images per second of wall time that two workers and one deliver,
for which the machine must have two free cores; the last one says from CPU times alone what two such cores would give.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from claims import Claim, Target, ratio, show, side
from mxnet_peer import Peer

from facerec.config import config_from_dict
from facerec.config.schema import AugmentConfig
from facerec.data.dataset import FaceDataset
from facerec.data.loader import TrainLoader, build_train_loader
from facerec.data.pack import FacePack
from facerec.data.sampler import BatchRequest
from facerec.data.synthetic import write_synthetic_pack
from facerec.data.transforms import normalise_images

_BATCH = 128
_SCALING_BATCHES = 40
_WARM_UP_BATCHES = 10


def main() -> None:
    """Measure and print."""
    arguments = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = (
            arguments.data
            or write_synthetic_pack(Path(folder) / "pack", num_identities=300, images_per_identity=20).folder
        )
        claims = [measure_cpu(root, arguments), *measure_workers(root, rounds=arguments.rounds)]
    print(show(claims, {}, as_json=arguments.json))


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer-arcface", type=Path)
    parser.add_argument("--mxnet-python", type=Path)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if (arguments.peer_arcface is None) != (arguments.mxnet_python is None):
        parser.error("--peer-arcface and --mxnet-python belong together")
    return arguments


def measure_cpu(root: Path, arguments: argparse.Namespace) -> Claim:
    """Microseconds of CPU time per image, both sides on the same images in turns."""
    pack = FacePack.open(root)
    dataset = FaceDataset(pack, image_hw=pack.image_hw or (112, 112), augment=AugmentConfig(), seed=1)
    peer = Peer(arguments.mxnet_python) if arguments.mxnet_python else None
    ours, others = [], []
    for turn in range(1 + arguments.rounds):
        indices = np.random.default_rng(turn).permutation(pack.num_images)[: arguments.images]
        began = time.process_time()
        for first in range(0, len(indices), _BATCH):
            batch = dataset.__getitems__(BatchRequest(turn, indices[first : first + _BATCH]))
            normalise_images(batch.images_BCHW)
        ours.append((time.process_time() - began) / len(indices) * 1e6)
        if peer:
            options = {"arcface": str(arguments.peer_arcface), "root": str(root), "indices": indices.tolist()}
            others.append(peer.ask("load", batch_size=_BATCH, **options)["seconds"] / len(indices) * 1e6)
    if peer:
        peer.close()
    ours, others = ours[1:], others[1:]  # The first turn warms both up.
    texts = {"ours": side(ours, "us"), "other": side(others, "us"), "against": "arcface_torch's data set"}
    name = "CPU time per image, from the record to a normalised float batch with a random flip"
    return ratio(name, ours, to=others, target=Target(at_most=0.4), **texts)


def measure_workers(root: Path, *, rounds: int) -> list[Claim]:
    """Images per second of wall time with two workers and with one, in turns; and CPU time of workers and trainer."""
    with open_loader(root, workers=2) as two, open_loader(root, workers=1) as one:
        turns = [(drain(two, epoch=turn), drain(one, epoch=turn)) for turn in range(1 + rounds)][1:]
    double, single = ([part.rate for part in column] for column in zip(*turns, strict=True))
    worker = statistics.median(pair[0].worker_us for pair in turns)
    trainer = statistics.median(pair[0].trainer_us for pair in turns)
    # One worker has a core for itself, beside the trainer; two share both cores with the trainer.
    used = [2 * pair[0].worker_us for pair in turns], [pair[0].worker_us + pair[0].trainer_us for pair in turns]
    times = f"{worker:.0f} us in a worker, {trainer:.0f} us in the trainer"
    return [
        ratio(
            "images/s of wall time with two workers",
            double,
            to=single,
            ours=side(double, "images/s"),
            other=side(single, "images/s"),
            against="one worker",
            target=Target(at_least=1.7),
            note="wants two free cores",
        ),
        ratio("the same as CPU times allow it", used[0], to=used[1], ours=times, against="one worker"),
    ]


def open_loader(root: Path, *, workers: int) -> TrainLoader:
    """A loader of the pack's own size; an epoch is long enough to measure."""
    height, width = FacePack.open(root).image_hw or (112, 112)
    data = {"root": str(root), "batch_size": _BATCH, "num_workers": workers, "img_size": [height, width]}
    return build_train_loader(config_from_dict({"data": data}))


class Drained(NamedTuple):
    """What a part of an epoch took."""

    rate: float
    """Images per second of wall time."""
    worker_us: float
    """CPU time of the workers per image."""
    trainer_us: float
    """CPU time of this process per image."""


def drain(loader: TrainLoader, *, epoch: int) -> Drained:
    """Take the batches of an epoch; rates once the queues are as full as they get, CPU time of the whole epoch."""
    began_cpu, began_workers = time.process_time(), workers_cpu()
    batches = loader.epoch(epoch)
    total = sum(len(batch.labels_B) for batch in islice(batches, _WARM_UP_BATCHES))
    began = time.perf_counter()
    count = sum(len(batch.labels_B) for batch in islice(batches, _SCALING_BATCHES))
    seconds = time.perf_counter() - began
    total += count + sum(len(batch.labels_B) for batch in batches)
    cpu, of_workers = time.process_time() - began_cpu, workers_cpu() - began_workers
    return Drained(count / seconds, of_workers / total * 1e6, cpu / total * 1e6)


def workers_cpu() -> float:
    """CPU time of all workers that live, in seconds; those of a loader that waits add nothing."""
    times = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return sum(part.user + part.system for part in times)


if __name__ == "__main__":
    main()
