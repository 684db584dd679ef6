"""The other side of `reader.py` and `loader.py`: mxnet 1.9.1 and arcface_torch's data set, in a process of their own.

The process is started with an interpreter that can import mxnet, and answers one JSON line for each that it gets. It
takes turns with ours, so that both see the same machine. Run as a program this file is that process; imported, it has
the class that talks to it.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any


class Peer:
    """The process, seen from ours."""

    def __init__(self, python: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MXNET_CPU_WORKER_NTHREADS": "1"}
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, task: str, **options: Any) -> dict[str, Any]:
        """Have a task done; returns what it gives."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"task": task, **options}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer's process has ended at the task {task}; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def resident_bytes() -> int:
    """Memory of this process that lies in RAM."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Server:
    def __init__(self) -> None:
        import numpy as np

        if "bool" not in np.__dict__:
            np.__dict__["bool"] = bool  # mxnet 1.9.1 uses the alias that numpy 1.24 removed.
        import mxnet

        self._mxnet = mxnet
        self._readers: dict[str, Any] = {}
        self._data_sets: dict[str, Any] = {}

    def answer(self, task: str, **options: Any) -> dict[str, Any]:
        return getattr(self, task)(**options)

    def read(self, rec: str, keys: list[int]) -> dict[str, Any]:
        """Random single reads, headers unpacked."""
        if rec not in self._readers:
            self._readers[rec] = self._mxnet.recordio.MXIndexedRecordIO(rec.removesuffix("rec") + "idx", rec, "r")
        reader, unpack = self._readers[rec], self._mxnet.recordio.unpack
        began, num_bytes = time.process_time(), 0
        for key in keys:
            num_bytes += len(unpack(reader.read_idx(key))[1])
        return {"seconds": time.process_time() - began, "bytes": num_bytes}

    def open_index(self, rec: str) -> dict[str, Any]:
        """Memory and time of an open index."""
        before, began, began_cpu = resident_bytes(), time.perf_counter(), time.process_time()
        reader = self._mxnet.recordio.MXIndexedRecordIO(rec.removesuffix("rec") + "idx", rec, "r")
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        facts = {"bytes": resident_bytes() - before, "records": len(reader.keys)}
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, **facts}

    def load(self, arcface: str, root: str, indices: list[int], batch_size: int) -> dict[str, Any]:
        """CPU time of normalised float batches by arcface_torch's own data set."""
        import torch
        from torch.utils.data import default_collate

        torch.set_num_threads(1)
        if root not in self._data_sets:
            sys.path.insert(0, arcface)
            from dataset import MXFaceDataset  # type: ignore[import-not-found]

            self._data_sets[root] = MXFaceDataset(root, 0)
        data_set = self._data_sets[root]
        began = time.process_time()
        for first in range(0, len(indices), batch_size):
            default_collate([data_set[index] for index in indices[first : first + batch_size]])
        return {"seconds": time.process_time() - began}


def main() -> None:
    """Answer line by line."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints must not stand among the answers.
    server = _Server()
    for line in sys.stdin:
        answers.write(json.dumps(server.answer(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
