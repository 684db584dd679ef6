"""Verification against its peers: ratios, measured in one run on one machine.

    python benchmarks/verify.py [--peer ARCFACE_TORCH] [--embeddings FILE.npz] [--bin FILE.bin] [--only NAME]
        [--rounds 5] [--json]

1. ``metrics``: every figure of a set of 6,000 pairs, without the bootstrap, against ``evaluate`` of
   ``eval/verification.py`` of an arcface_torch checkout (``--peer``), and against ``calculate_roc`` in it alone, on the
   same embeddings, with the differences of accuracy, standard deviation and thresholds.
2. ``curve``: the full ROC, TAR at seven FARs, EER and AUC of 15.7 million scores against ``roc_curve`` and
   ``roc_auc_score`` of scikit-learn, with the peak of memory of our process.
3. ``embed``: the images of a ``.bin`` (default: made-up pictures, shared by pairs as in LFW) against a plain loop over
   the pairs, with the same backbone on one CPU thread.

Ours and the peer's take turns; the ratios are of the seconds of each turn. ``--json`` prints the claims as one object.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from claims import Claim, Target, absolute, claim_from_dict, ratio, show, side

_NUM_PAIRS = 6000
_NUM_SCORES = 15_658_489
_NUM_GENUINE = 19_557
_PARTS = ("metrics", "curve", "embed")


def main() -> None:
    """Run every part, each in a process of its own, so that memory and imports of one do not weigh on another."""
    arguments = parse()
    if arguments.only:
        parts = {"metrics": compare_metrics, "curve": compare_curve, "embed": compare_embedding}
        claims = parts[arguments.only](arguments)
    else:
        claims = [claim for part in _PARTS for claim in in_process(part)]
    print(show(claims, {}, as_json=arguments.json))


def in_process(part: str) -> list[Claim]:
    """The claims of one part."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", part, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [claim_from_dict(claim) for claim in json.loads(done.stdout)["claims"]]


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="a checkout of arcface_torch (the folder with eval/verification.py)")
    parser.add_argument("--embeddings", type=Path, help="an .npz as `facerec evaluate --embeddings` takes it")
    parser.add_argument("--bin", type=Path, help="a pair set")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of the set to embed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scores", type=int, default=_NUM_SCORES, help="of the curve")
    parser.add_argument("--only", choices=_PARTS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def in_turns(rounds: int, *functions: Callable[[], Any]) -> list[tuple[list[float], Any]]:
    """The seconds of each function in every round and its last result, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    results: list[Any] = [None] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            results[index] = function()
            times[index].append(time.perf_counter() - start)
    return list(zip(times, results, strict=True))


def compare_metrics(arguments: argparse.Namespace) -> list[Claim]:
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

    ours()
    name = f"all figures of {len(issame):,} pairs, {normal.shape[1]} dimensions"
    if arguments.peer is None:
        (spent, _), (with_norms, _) = in_turns(arguments.rounds, ours, whole)
        return [
            ratio(f"{name}: time", spent, to=[], against="arcface_torch's evaluate", ours=side(spent, "s")),
            absolute(f"{name}, with norms and normalising", with_norms, unit="s"),
        ]
    peer = load_peer(arguments.peer)
    how = make_peer_run(peer, normal, issame)

    def one_part() -> Any:
        return peer.calculate_roc(np.arange(0, 4, 0.01), normal[0::2], normal[1::2], issame, nrof_folds=10)[2]

    (spent, result), (part, accuracy), (evaluated, _) = in_turns(
        arguments.rounds, ours, one_part, lambda: peer.evaluate(normal, issame)
    )
    thresholds = np.abs(result.fold_threshold_sq_l2 - peer_thresholds(peer, normal, issame)).max()
    accuracies = abs(result.accuracy - accuracy.mean()), abs(result.accuracy_std - accuracy.std())
    return [
        timed(f"{name}: time", spent, evaluated, who="arcface_torch's evaluate", target=Target(at_most=0.05), note=how),
        timed(f"{name}: time", spent, part, who="arcface_torch's calculate_roc, a part of it"),
        absolute(
            "largest difference of accuracy, deviation and thresholds from arcface_torch's",
            [max(*accuracies, thresholds)],
            unit="in value",
            target=Target(at_most=1e-12),
        ),
    ]


def timed(
    name: str, ours: list[float], others: list[float], *, who: str, target: Target | None = None, note: str = ""
) -> Claim:
    """The ratio of our seconds to another's."""
    texts = {"ours": side(ours, "s"), "other": side(others, "s"), "against": who, "note": note}
    return ratio(name, ours, to=others, target=target, **texts)


def make_peer_run(peer: Any, embeddings: np.ndarray, issame: np.ndarray) -> str:
    """Have the peer's `evaluate` run with the present scipy; returns what had to be done."""
    try:
        peer.evaluate(embeddings, issame)
    except ValueError:
        # The loops before it are the cost; a linear interpolation that takes repeated values stands in for the call.
        peer.interpolate = types.SimpleNamespace(interp1d=lambda x, y, **_: lambda at: np.interp(at, x, y))
        return "with another interpolation: scipy refuses repeated values in its own"
    return ""


def compare_curve(arguments: argparse.Namespace) -> list[Claim]:
    """Part 2."""
    from facerec.metrics.roc import auc, eer, roc_curve, tar_at_far

    count = arguments.scores
    generator = np.random.default_rng(0)
    genuine = np.zeros(count, np.bool_)
    genuine[: max(1, count * _NUM_GENUINE // _NUM_SCORES)] = True
    generator.shuffle(genuine)
    scores = generator.standard_normal(count)
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

    # Each turn of the other side takes ten seconds, and its time hardly varies.
    (spent, (_, _, area)), (others, (_, their_area)) = in_turns(min(3, arguments.rounds), ours, theirs)
    name = f"ROC, TAR at seven FARs, EER, AUC of {count:,} scores"
    who = "scikit-learn's roc_curve and roc_auc_score"
    return [
        timed(f"{name}: time", spent, others, who=who, target=Target(at_most=0.2)),
        absolute(f"{name}: peak of memory", [peak_gb], unit="GB", target=Target(at_most=1.5)),
        absolute("difference of AUC from scikit-learn's", [abs(area - their_area)], unit="in value"),
    ]


def compare_embedding(arguments: argparse.Namespace) -> list[Claim]:
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

    (spent, found), (others, expected) = in_turns(arguments.rounds, ours, plain)
    ours_rates, their_rates = ([len(images) / seconds for seconds in times] for times in (spent, others))
    texts = {"ours": side(ours_rates, "images/s"), "other": side(their_rates, "images/s")}
    what = f"embedding {len(images) // 2} pairs with {len(set(images))} different images, mobilefacenet, one thread"
    note = f"largest difference of an embedding {np.abs(found - expected).max():.1e}"
    against = "a plain loop over the pairs"
    return [ratio(what, ours_rates, to=their_rates, against=against, target=Target(at_least=1.3), note=note, **texts)]


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
