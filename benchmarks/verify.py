"""Verification against its peers: ratios, measured in one run on one machine.

    python benchmarks/verify.py [--peer ARCFACE_TORCH] [--embeddings FILE.npz] [--bin FILE.bin] [--only NAME]

1. ``metrics``: every figure of a set of 6,000 pairs, without the bootstrap, against ``evaluate`` of
   ``eval/verification.py`` of an arcface_torch checkout (``--peer``), and against ``calculate_roc`` in it alone, on the
   same embeddings, with the differences of accuracy, standard deviation and thresholds.
2. ``curve``: the full ROC, TAR at seven FARs, EER and AUC of 15.7 million scores against ``roc_curve`` and
   ``roc_auc_score`` of scikit-learn, with the peak of memory of our process.
3. ``embed``: the images of a ``.bin`` (default: made-up pictures, shared by pairs as in LFW) against a plain loop over
   the pairs, with the same backbone on one CPU thread.

Every time is the best of several, ours and the peer's in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_NUM_PAIRS = 6000
_NUM_SCORES = 15_658_489
_NUM_GENUINE = 19_557
_REPEATS = 5
_PARTS = ("metrics", "curve", "embed")


def main() -> None:
    """Run every part, each in a process of its own, so that memory and imports of one do not weigh on another."""
    arguments = parse()
    if arguments.only:
        {"metrics": compare_metrics, "curve": compare_curve, "embed": compare_embedding}[arguments.only](arguments)
        return
    for part in _PARTS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", part], check=True)


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="a checkout of arcface_torch (the folder with eval/verification.py)")
    parser.add_argument("--embeddings", type=Path, help="an .npz as `facerec evaluate --embeddings` takes it")
    parser.add_argument("--bin", type=Path, help="a pair set")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of the set to embed")
    parser.add_argument("--only", choices=_PARTS)
    return parser.parse_args()


def best_of(*functions: Callable[[], Any]) -> list[tuple[float, Any]]:
    """The shortest time of each function and its result, called in turn."""
    times = [float("inf")] * len(functions)
    results: list[Any] = [None] * len(functions)
    for _ in range(_REPEATS):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            results[index] = function()
            times[index] = min(times[index], time.perf_counter() - start)
    return list(zip(times, results, strict=True))


def compare_metrics(arguments: argparse.Namespace) -> None:
    """Part 1."""
    from facerec.evaluation.embed import Embeddings
    from facerec.evaluation.result import judge_pairs, score_pairs
    from facerec.metrics.bootstrap import identity_clusters
    from facerec.metrics.similarity import compare_pairs

    normal, issame = verification_embeddings(arguments.embeddings)
    pair_index = np.arange(len(normal)).reshape(-1, 2)
    stored = Embeddings(original=normal.astype(np.float32), flipped=None)
    labels: dict[str, Any] = {"identities_known": False, "xnorm": 1.0, "name": "set", "sha256": ""}

    def ours() -> Any:
        scores, distances = compare_pairs(normal, pair_index)
        people = identity_clusters(pair_index, issame)
        return judge_pairs(scores, distances, issame=issame, people=people, **labels)

    def whole() -> Any:
        return score_pairs(stored, pair_index=pair_index, issame=issame, name="set", sha256="")

    print(f"metrics: {len(issame)} pairs, {normal.shape[1]} dimensions")
    if arguments.peer is None:
        ours()
        ((our_s, _), (whole_s, _)) = best_of(ours, whole)
        print(f"  ours {1000 * our_s:.1f} ms, with norms and normalising {1000 * whole_s:.1f} ms; peer not given")
        return
    peer = load_peer(arguments.peer)

    def theirs() -> Any:
        return peer.calculate_roc(np.arange(0, 4, 0.01), normal[0::2], normal[1::2], issame, nrof_folds=10)[2]

    ours()
    (our_s, result), (whole_s, _), (their_s, accuracy) = best_of(ours, whole, theirs)
    print(
        f"  from normalised embeddings to all figures {1000 * our_s:.1f} ms, calculate_roc {1000 * their_s:.0f} ms:",
        end=" ",
    )
    print(f"{their_s / our_s:.0f} times; with norms and normalising {1000 * whole_s:.1f} ms")
    print(f"  difference of accuracy {abs(result.accuracy - accuracy.mean()):.1e}, of its deviation", end=" ")
    print(f"{abs(result.accuracy_std - accuracy.std()):.1e}, of the thresholds", end=" ")
    print(f"{np.abs(result.fold_threshold_sq_l2 - peer_thresholds(peer, normal, issame)).max():.1e}")
    try:
        peer.evaluate(normal, issame)
        how = "as it is"
    except ValueError as error:
        # The loops before it are the cost; a linear interpolation that takes repeated values stands in for the call.
        how = f"with another interpolation, for scipy refuses its own ({error})"
        peer.interpolate = types.SimpleNamespace(interp1d=lambda x, y, **_: lambda at: np.interp(at, x, y))
    ((our_s, _), (their_s, found)) = best_of(ours, lambda: peer.evaluate(normal, issame))
    print(f"  all figures {1000 * our_s:.1f} ms, evaluate as a whole {1000 * their_s:.0f} ms:", end=" ")
    print(f"{their_s / our_s:.0f} times, {how}")
    print(f"  VAL at FAR 1e-3: ours {result.val.val:.6f}, theirs {found[3]:.6f}")


def compare_curve(arguments: argparse.Namespace) -> None:
    """Part 2."""
    from facerec.metrics.roc import auc, eer, roc_curve, tar_at_far

    generator = np.random.default_rng(0)
    genuine = np.zeros(_NUM_SCORES, np.bool_)
    genuine[:_NUM_GENUINE] = True
    generator.shuffle(genuine)
    scores = generator.standard_normal(_NUM_SCORES)
    scores *= 0.1
    scores[genuine] += 0.6
    tar_at_far(roc_curve(scores[:1000] + genuine[:1000], np.arange(1000) % 2 == 0), 0.1)

    def ours() -> Any:
        roc = roc_curve(scores, genuine)
        return [tar_at_far(roc, 10.0**-k) for k in range(7)], eer(roc), auc(roc)

    ours()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    from sklearn.metrics import roc_auc_score
    from sklearn.metrics import roc_curve as peer_curve

    def theirs() -> Any:
        return peer_curve(genuine, scores), roc_auc_score(genuine, scores)

    (our_s, (_, _, area)), (their_s, (_, their_area)) = best_of(ours, theirs)
    print(f"curve: {_NUM_SCORES} scores")
    print(f"  ours {our_s:.2f} s, scikit-learn {their_s:.2f} s: {their_s / our_s:.1f} times")
    print(f"  peak of memory {peak_gb:.2f} GB, difference of AUC {abs(area - their_area):.1e}")


def compare_embedding(arguments: argparse.Namespace) -> None:
    """Part 3."""
    import torch

    from facerec.config.load import config_from_dict
    from facerec.data.decode import decode_image
    from facerec.data.pairs import read_pairs
    from facerec.data.transforms import normalise_images
    from facerec.evaluation.embed import embed_images
    from facerec.models.build import build_backbone

    torch.set_num_threads(1)
    images = made_up_images(arguments.pairs) if arguments.bin is None else read_pairs(arguments.bin).images
    images = tuple(images[: 2 * arguments.pairs])
    config = config_from_dict({"model": {"backbone": "mobilefacenet"}})
    backbone = build_backbone(config.model, image_hw=(112, 112)).eval().to(memory_format=torch.channels_last)

    def ours() -> Any:
        found = embed_images(backbone, images, image_hw=(112, 112), device=torch.device("cpu"), batch_size=64)
        return found.original + found.flipped

    @torch.inference_mode()
    def plain() -> Any:
        rows = []
        for index in range(0, len(images), 2):
            pixels = np.stack([decode_image(images[index + side], image_hw=(112, 112)) for side in (0, 1)])
            batch = normalise_images(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            batch = batch.contiguous(memory_format=torch.channels_last)
            rows.append((backbone(batch) + backbone(batch.flip(3))).numpy())
        return np.concatenate(rows)

    (our_s, found), (their_s, expected) = best_of(ours, plain)
    print(f"embed: {len(images)} images of {len(images) // 2} pairs, {len(set(images))} different")
    print(f"  ours {len(images) / our_s:.0f} images/s, a loop over pairs {len(images) / their_s:.0f}:", end=" ")
    print(f"{their_s / our_s:.2f} times; largest difference {np.abs(found - expected).max():.1e}")


def verification_embeddings(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Normalised float64 embeddings, two rows for each pair, and the truth."""
    if path is not None:
        from facerec.evaluation.stored import read_embeddings
        from facerec.metrics.similarity import normalise

        stored = read_embeddings(path)
        versions = [stored.embeddings.original, stored.embeddings.flipped]
        summed = np.sum([version.astype(np.float64) for version in versions if version is not None], axis=0)
        return normalise(summed)[stored.pair_index.ravel()], stored.issame
    generator = np.random.default_rng(0)
    issame = np.arange(_NUM_PAIRS) % 600 < 300
    people = generator.normal(size=(_NUM_PAIRS, 2, 512))
    people[issame, 1] = people[issame, 0]
    noisy = (people + 1.6 * generator.normal(size=people.shape)).reshape(-1, 512)
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True), issame


def load_peer(folder: Path) -> Any:
    """The peer's module, which wants mxnet for reading files alone."""
    mxnet: Any = types.ModuleType("mxnet")
    mxnet.ndarray = types.ModuleType("mxnet.ndarray")
    sys.modules.update({"mxnet": mxnet, "mxnet.ndarray": mxnet.ndarray})
    spec = importlib.util.spec_from_file_location("peer_verification", folder / "eval" / "verification.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer_thresholds(peer: Any, embeddings: np.ndarray, issame: np.ndarray) -> np.ndarray:
    """The thresholds that the peer's loops choose, which it does not return."""
    distances = np.sum(np.square(embeddings[0::2] - embeddings[1::2]), axis=1)
    thresholds = np.arange(0, 4, 0.01)
    chosen = []
    for train, _ in peer.LFold(n_splits=10).split(np.arange(len(issame))):
        accuracy = [peer.calculate_accuracy(t, distances[train], issame[train])[2] for t in thresholds]
        chosen.append(thresholds[int(np.argmax(accuracy))])
    return np.array(chosen)


def made_up_images(num_pairs: int) -> list[bytes]:
    """Pictures of which pairs share as many as those of LFW: 7,701 different ones in 12,000 places."""
    from PIL import Image

    generator = np.random.default_rng(0)
    different = []
    for _ in range(round(2 * num_pairs * 7701 / 12000)):
        small = generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
        different.append(buffer.getvalue())
    places = np.concatenate(
        [np.arange(len(different)), generator.integers(len(different), size=2 * num_pairs - len(different))]
    )
    return [different[place] for place in generator.permutation(places)]


if __name__ == "__main__":
    main()
