"""Coverage-guided fuzzing of one entrance with atheris: ``make fuzz SECONDS=600`` runs all three.

``python -m tests.fuzz.run TARGET --seconds N`` starts from the seeds and from ``tests/fuzz/corpus/TARGET``, keeps what
it learns under ``--work``, and ends with 0 when nothing was found. A finding is an input under ``--work``, which
``python -m tests.fuzz.run TARGET FILE`` shows again. ``python -m tests.fuzz.shrink TARGET`` makes a small corpus of
what was learnt.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from pathlib import Path

__all__ = ["CORPUS"]

CORPUS = Path(__file__).resolve().parent / "corpus"

_LONGEST_BYTES = 4096


def main() -> None:
    """Fuzz; libFuzzer ends the process."""
    options = _parse()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed; install the extra 'fuzz' (Linux, Python 3.11 to 3.13)", file=sys.stderr)
        sys.exit(2)
    with atheris.instrument_imports(include=["facerec", "PIL"], enable_loader_override=False):
        from tests.fuzz.seeds import seeds_of
        from tests.fuzz.targets import TARGETS
    logging.disable()  # What readers say about each damaged file would bury what libFuzzer says.
    known = options.work / options.target
    known.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(options.target):
        (known / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    arguments = [sys.argv[0], "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={known}-", "-print_final_stats=1"]
    arguments += [f"-max_len={_LONGEST_BYTES}", f"-seed={options.seed}"]
    stored = CORPUS / options.target
    stored.mkdir(parents=True, exist_ok=True)
    if options.file:
        arguments.append(str(options.file))
    else:
        arguments += [f"-max_total_time={options.seconds}", str(known), str(stored)]
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("target", choices=["records", "pairs", "images"])
    parser.add_argument("file", nargs="?", type=Path, help="show what this one input does")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer's draws")
    parser.add_argument("--work", type=Path, default=Path(".fuzz"), help="where inputs and findings go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
