"""Reading records: our reader against mxnet's, in turns on the same records, medians of the ratios of the turns.

    python benchmarks/reader.py [--data FOLDER] [--mxnet-python PYTHON] [--records 5822653] [--rounds 9]
        [--openings 3] [--json]

FOLDER holds ``train.rec`` and ``train.idx``; without it a pack of drawn pictures is made. PYTHON is an interpreter
that can import mxnet 1.9.1, such as the one of ``make test-mxnet``; without it there are no ratios. Rates are records
per second of CPU time in one process. Then an index of ``--records`` made-up lines is opened, every time in a new
process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from claims import Claim, Target, absolute, ratio, show, side
from mxnet_peer import Peer, resident_bytes

from facerec.data.index import open_index
from facerec.data.recordio import RecordReader
from facerec.data.synthetic import write_synthetic_pack

_BATCH = 128
_WARM_UP = 1


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        claims = measure_reads(find_pack(arguments.data, Path(folder)), arguments.mxnet_python, arguments.rounds)
        for is_shuffled in (False, True):
            claims += measure_index(Path(folder), arguments, is_shuffled=is_shuffled)
    print(show(claims, {}, as_json=arguments.json))


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mxnet-python", type=Path)
    parser.add_argument("--records", type=int, default=5_822_653, help="of the index; those of MS1MV2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--openings", type=int, default=3, help="of each index")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def find_pack(data: Path | None, folder: Path) -> Path:
    """The record file to read."""
    if data is not None:
        return data / "train.rec"
    return write_synthetic_pack(folder / "pack", num_identities=500, images_per_identity=20).folder / "train.rec"


def measure_reads(rec: Path, python: Path | None, rounds: int) -> list[Claim]:
    """Random reads of all records: one by one, and in batches."""
    reader, slow = RecordReader(rec), RecordReader(rec, io="pread")
    ways: dict[str, tuple[Callable[[list[int]], None], Target | None]] = {
        "random reads, header unpacked, one by one": (lambda order: _singly(reader, order), Target(at_least=4)),
        "the same in batches of 128": (lambda order: _in_batches(reader, order), Target(at_least=8)),
        "the same, every image copied": (lambda order: _copied(reader, order), None),
        "one by one, data.io: pread": (lambda order: _singly(slow, order), None),
    }
    peer = Peer(python) if python else None
    rates: dict[str, list[float]] = {name: [] for name in ways}
    peers: list[float] = []
    for turn in range(_WARM_UP + rounds):
        order = np.random.default_rng(turn).permutation(reader.keys).tolist()
        if peer:
            peers.append(len(order) / peer.ask("read", rec=str(rec), keys=order)["seconds"])
        for name, (way, _) in ways.items():
            began = time.process_time()
            way(order)
            rates[name].append(len(order) / (time.process_time() - began))
    if peer:
        peer.close()
    claims = []
    for name, (_, target) in ways.items():
        ours, others = rates[name][_WARM_UP:], peers[_WARM_UP:]
        texts = {"ours": side(ours, "records/s"), "other": side(others, "records/s"), "against": "mxnet 1.9.1"}
        claims.append(ratio(name, ours, to=others, target=target, **texts))
    return claims


def _singly(reader: RecordReader, keys: list[int]) -> None:
    for key in keys:
        reader.read_image(key)


def _in_batches(reader: RecordReader, keys: list[int]) -> None:
    for first in range(0, len(keys), _BATCH):
        reader.read_batch(np.array(keys[first : first + _BATCH]))


def _copied(reader: RecordReader, keys: list[int]) -> None:
    for first in range(0, len(keys), _BATCH):
        for image in reader.read_batch(np.array(keys[first : first + _BATCH])).images:
            bytes(image)


def measure_index(folder: Path, arguments: argparse.Namespace, *, is_shuffled: bool) -> list[Claim]:
    """Opening an index for the first time and from its binary copy, and the memory that it takes."""
    rec = folder / f"index-{is_shuffled}.rec"
    cache = rec.with_suffix(".idx.cache")
    write_index(rec.with_suffix(".idx"), arguments.records, is_shuffled=is_shuffled)
    rec.write_bytes(b"")
    # A fresh process for each opening, so that no memory of an earlier one is used again.
    first, again, peers = [], [], []
    for _ in range(arguments.openings):
        cache.unlink(missing_ok=True)
        first.append(opening(rec))
        again.append(opening(rec))
        if arguments.mxnet_python:
            peer = Peer(arguments.mxnet_python)
            peers.append(peer.ask("open_index", rec=str(rec)))
            peer.close()
    rec.with_suffix(".idx").unlink()
    cache.unlink()
    name = f"index of {arguments.records:,} records, {'shuffled' if is_shuffled else 'in order'}"
    per_record = {"of": arguments.records, "unit": "bytes/record"}
    return [
        absolute(f"{name}: first opening", column(first, "seconds"), unit="s", target=Target(at_most=2)),
        compared(f"{name}: first opening, CPU time", first, peers, fact="cpu_seconds", unit="s"),
        absolute(f"{name}: next opening", column(again, "seconds"), unit="s", target=Target(at_most=0.1)),
        compared(f"{name}: next opening", again, peers, fact="seconds", unit="s"),
        absolute(
            f"{name}: memory", column(again, "bytes", of=arguments.records), unit="B/record", target=Target(at_most=16)
        ),
        compared(f"{name}: memory", again, peers, fact="bytes", target=Target(at_most=0.1), **per_record),
    ]


def column(answers: list[dict[str, Any]], fact: str, *, of: int = 1) -> list[float]:
    """One fact of every opening, divided."""
    return [answer[fact] / of for answer in answers]


def compared(
    name: str,
    ours: list[dict[str, Any]],
    peers: list[dict[str, Any]],
    *,
    fact: str,
    unit: str,
    of: int = 1,
    target: Target | None = None,
) -> Claim:
    """The ratio of a fact to mxnet's."""
    mine, others = column(ours, fact, of=of), column(peers, fact, of=of)
    texts = {"ours": side(mine, unit), "other": side(others, unit), "against": "mxnet 1.9.1"}
    return ratio(name, mine, to=others, target=target, **texts)


def write_index(path: Path, count: int, *, is_shuffled: bool) -> None:
    """An index of made-up records of 4 to 10 kilobytes, as written in the order of the keys or in a random one."""
    rng = np.random.default_rng(0)
    offsets = np.append(0, np.cumsum(rng.integers(1000, 2500, count - 1) * 4))
    keys = rng.permutation(count) if is_shuffled else np.arange(count)
    with open(path, "w", encoding="ascii") as stream:
        for first in range(0, count, 1 << 18):
            part = slice(first, first + (1 << 18))
            pairs = zip(keys[part].tolist(), offsets[part].tolist(), strict=True)
            stream.write("".join(f"{key}\t{offset}\n" for key, offset in pairs))


def opening(rec: Path) -> dict[str, Any]:
    """Time and memory of opening an index, in a process of its own."""
    command = [sys.executable, __file__, "--open", str(rec.with_suffix(".idx"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def open_here(path: Path) -> None:
    """Open an index and tell time and memory; one small index first, for what numpy sets up once."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder) / "small.idx", 1000, is_shuffled=True)
        open_index(Path(folder) / "small.idx")
    before, began, began_cpu = resident_bytes(), time.perf_counter(), time.process_time()
    index = open_index(path)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    facts = {"bytes": resident_bytes() - before, "records": len(index)}
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **facts}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        open_here(Path(sys.argv[2]))
    else:
        main()
