"""Reading records: our reader against mxnet's, in turns on the same records, medians of the ratios of the turns.

    python benchmarks/reader.py [--data FOLDER] [--mxnet-python PYTHON] [--records 5822653] [--rounds 9] [--json]

FOLDER holds ``train.rec`` and ``train.idx``; without it a pack of drawn pictures is made. PYTHON is an interpreter
that can import mxnet 1.9.1, such as the one of ``make test-mxnet``; without it the peer's columns stay empty. Rates
are records per second of CPU time in one process. The second table opens an index of ``--records`` made-up lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mxnet_peer import Peer, resident_bytes

from facerec.data.index import open_index
from facerec.data.recordio import RecordReader
from facerec.data.synthetic import write_synthetic_pack

_BATCH = 128
_WARM_UP = 1


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: float
    peer: float | None
    ratio: float | None
    promised: str
    unit: str


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(arguments.mxnet_python) if arguments.mxnet_python else None
        rows = measure_reads(find_pack(arguments.data, Path(folder)), peer, rounds=arguments.rounds)
        for is_shuffled in (False, True):
            rows += measure_index(Path(folder), peer, count=arguments.records, is_shuffled=is_shuffled)
        if peer:
            peer.close()
    print(json.dumps([row._asdict() for row in rows]) if arguments.json else table(rows))


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mxnet-python", type=Path)
    parser.add_argument("--records", type=int, default=5_822_653, help="of the index; those of MS1MV2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def find_pack(data: Path | None, folder: Path) -> Path:
    """The record file to read."""
    if data is not None:
        return data / "train.rec"
    return write_synthetic_pack(folder / "pack", num_identities=500, images_per_identity=20).folder / "train.rec"


def measure_reads(rec: Path, peer: Peer | None, *, rounds: int) -> list[Row]:
    """Random reads of all records: one by one, and in batches."""
    reader, slow = RecordReader(rec), RecordReader(rec, io="pread")
    keys = reader.keys
    ways: dict[str, tuple[Callable[[list[int]], None], str]] = {
        "single reads, header unpacked": (lambda order: _singly(reader, order), ">= 4"),
        "batches of 128": (lambda order: _in_batches(reader, order), ">= 8"),
        "batches of 128, every image copied": (lambda order: _copied(reader, order), ""),
        "single reads by pread": (lambda order: _singly(slow, order), ""),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    peers: list[float] = []
    for turn in range(_WARM_UP + rounds):
        order = np.random.default_rng(turn).permutation(keys).tolist()
        if peer:
            peers.append(len(order) / peer.ask("read", rec=str(rec), keys=order)["seconds"])
        for name, (way, _) in ways.items():
            began = time.process_time()
            way(order)
            rates[name].append(len(order) / (time.process_time() - began))
    peers = peers[_WARM_UP:]
    rows = []
    for name, (_, promised) in ways.items():
        ours = rates[name][_WARM_UP:]
        ratio = statistics.median(one / other for one, other in zip(ours, peers, strict=True)) if peers else None
        other = statistics.median(peers) if peers else None
        rows.append(Row(name, statistics.median(ours), other, ratio, promised, "records/s"))
    return rows


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


def measure_index(folder: Path, peer: Peer | None, *, count: int, is_shuffled: bool) -> list[Row]:
    """Opening an index for the first time and from its binary copy, and the memory that it takes."""
    kind = "shuffled" if is_shuffled else "in order"
    rec = folder / f"index-{is_shuffled}.rec"
    write_index(rec.with_suffix(".idx"), count, is_shuffled=is_shuffled)
    rec.write_bytes(b"")
    # A fresh process for each, so that no memory of an earlier one is used again.
    first, again = opening(rec), opening(rec)
    other = peer.ask("open_index", rec=str(rec)) if peer else None
    rec.with_suffix(".idx").unlink()
    rec.with_suffix(".idx.cache").unlink()
    name = f"index of {count:,} records, {kind}"
    measured = [
        (f"{name}: first opening", "seconds", first, 1, "< 2 s", "s"),
        (f"{name}: first opening, CPU time", "cpu_seconds", first, 1, "", "s"),
        (f"{name}: next opening", "seconds", again, 1, "< 0.1 s", "s"),
        (f"{name}: memory", "bytes", again, count, "<= 16, <= 0.1", "bytes/record"),
    ]
    rows = []
    for what, fact, ours, divisor, promised, unit in measured:
        value, peer_value = ours[fact] / divisor, other[fact] / divisor if other else None
        rows.append(Row(what, value, peer_value, value / peer_value if peer_value else None, promised, unit))
    return rows


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


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'':<58} {'ours':>11} {'mxnet':>11} {'ratio':>7}  promised"]
    for row in rows:
        peer = "not given" if row.peer is None else f"{row.peer:,.4g}" if row.peer < 1000 else f"{row.peer:,.0f}"
        ours = f"{row.ours:,.4g}" if row.ours < 1000 else f"{row.ours:,.0f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        lines.append(f"{row.what:<58} {ours:>11} {peer:>11} {ratio:>7}  {row.promised} ({row.unit})")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        open_here(Path(sys.argv[2]))
    else:
        main()
