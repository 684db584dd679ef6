"""Where the time goes on the three hot paths: the top entries of a profile.

    python benchmarks/profiles.py loader [--data FOLDER] [--images 5120] [--top 15]
    python benchmarks/profiles.py step [--backbone iresnet18] [--batch 32] [--float32] [--steps 3] [--top 15]
    python benchmarks/profiles.py evaluation [--backbone mobilefacenet] [--pairs 150] [--top 15]

``loader`` is the work of one worker process, in this one, by `cProfile`: from the record to an 8-bit batch. ``step`` is
a whole training step and ``evaluation`` the pairs of a set to embeddings, both by `torch.profiler`; evaluation then
lists by `cProfile` what scoring 6,000 pairs costs. Times are of the entries themselves, without what they call.
docs/profiles.md says what was found and done.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from facerec.config import config_from_dict
from facerec.config.schema import AugmentConfig

_IMAGE_HW = (112, 112)
_LOADER_BATCH = 128
_NUM_PAIRS = 6000


def main() -> None:
    """Profile one path and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["loader", "step", "evaluation"])
    parser.add_argument("--data", type=Path, help="a pack; drawn pictures without")
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--backbone")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10_572)
    parser.add_argument("--float32", action="store_true", help="without bfloat16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--top", type=int, default=15)
    arguments = parser.parse_args()
    print({"loader": profile_loader, "step": profile_step, "evaluation": profile_evaluation}[arguments.what](arguments))


def profile_loader(arguments: argparse.Namespace) -> str:
    """What a worker does for its batches."""
    from facerec.data.dataset import FaceDataset
    from facerec.data.pack import FacePack
    from facerec.data.sampler import BatchRequest
    from facerec.data.synthetic import write_synthetic_pack

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = (
            arguments.data
            or write_synthetic_pack(Path(folder) / "pack", num_identities=300, images_per_identity=20).folder
        )
        pack = FacePack.open(root)
        dataset = FaceDataset(pack, image_hw=pack.image_hw or _IMAGE_HW, augment=AugmentConfig(), seed=1)
        order = np.random.default_rng(0).permutation(pack.num_images)[: arguments.images]

        def epoch() -> None:
            for first in range(0, len(order), _LOADER_BATCH):
                dataset.__getitems__(BatchRequest(0, order[first : first + _LOADER_BATCH]))

        epoch()
        return by_python(epoch, top=arguments.top)


def profile_step(arguments: argparse.Namespace) -> str:
    """A whole training step."""
    from facerec.training.assembly import assemble
    from facerec.training.distributed import World

    config = config_from_dict(
        {
            "device": "cpu",
            "model": {"backbone": arguments.backbone or "iresnet18", "embedding_size": 512},
            "head": {"type": "arcface", "num_classes": arguments.classes},
            "data": {"batch_size": arguments.batch},
            "training": {"amp": not arguments.float32, "lr": 0.02, "weight_decay": 5e-4},
        }
    )
    parts = assemble(config, num_classes=arguments.classes, device=torch.device("cpu"), world=World())
    parts.model.train()
    images = torch.randint(0, 256, (arguments.batch, *_IMAGE_HW, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels_B = torch.randint(arguments.classes, (arguments.batch,))
    numbers = iter(range(1_000_000))

    def steps() -> None:
        for _ in range(arguments.steps):
            parts.step(images, labels_B, step=next(numbers))

    steps()
    return by_torch(steps, top=arguments.top)


def profile_evaluation(arguments: argparse.Namespace) -> str:
    """Embedding the pairs of a set, and scoring 6,000."""
    from verify import made_up_images, verification_embeddings

    from facerec.evaluation.embed import Embeddings, embed_images
    from facerec.evaluation.result import score_pairs
    from facerec.models.build import build_backbone

    config = config_from_dict({"model": {"backbone": arguments.backbone or "mobilefacenet"}})
    backbone = build_backbone(config.model, image_hw=_IMAGE_HW).eval().to(memory_format=torch.channels_last)
    images = made_up_images(arguments.pairs)
    cpu = torch.device("cpu")

    def embed() -> None:
        embed_images(backbone, images, image_hw=_IMAGE_HW, device=cpu, batch_size=arguments.batch)

    normal, issame = verification_embeddings(None)
    stored = Embeddings(original=normal.astype(np.float32), flipped=None)
    pair_index = np.arange(2 * _NUM_PAIRS).reshape(-1, 2)

    def score() -> None:
        score_pairs(stored, pair_index=pair_index, issame=issame, name="set", sha256="")

    embed()
    score()
    return by_torch(embed, top=arguments.top) + by_python(score, top=arguments.top)


def by_python(work: Callable[[], None], *, top: int) -> str:
    """The functions in which Python spends most time."""
    profile = cProfile.Profile()
    profile.runcall(work)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(top)
    return text.getvalue()


def by_torch(work: Callable[[], None], *, top: int) -> str:
    """The operators in which torch spends most processor time, in their own code."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=top, max_name_column_width=55)


if __name__ == "__main__":
    main()
