"""Seeds and what fuzzing has kept go through every entrance without a finding; and the judges can find something."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from facerec.errors import ImageError
from tests.fuzz import targets
from tests.fuzz.seeds import seeds_of
from tests.fuzz.shrink import cover
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).resolve().parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_corpus_break_no_promise(target: str) -> None:
    stored = sorted((CORPUS / target).iterdir())
    assert stored
    for data in (*seeds_of(target), *(path.read_bytes() for path in stored)):
        TARGETS[target](data)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 200_000


def test_shrinking_keeps_what_reaches_something_new() -> None:
    good = seeds_of("pairs")[0]
    reached: set[tuple[str, int, int]] = set()
    assert cover(TARGETS["pairs"], [good, good, b""], reached) == [good, b""]
    assert any(file.endswith("pickles.py") for file, _, _ in reached)


def test_the_judge_of_records_notices_two_readings_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    real = targets.RecordReader.read

    def careless(reader: targets.RecordReader, key: int) -> bytes:
        return real(reader, key) + (b"x" if reader.io == "pread" else b"")

    monkeypatch.setattr(targets.RecordReader, "read", careless)
    with pytest.raises(AssertionError):
        targets.fuzz_records(seeds_of("records")[1])


def test_the_judge_of_pairs_notices_an_unnamed_error_and_an_odd_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "read_pairs", lambda path: pickle.loads(path.read_bytes()))
    with pytest.raises(pickle.UnpicklingError):
        targets.fuzz_pairs(b"\xff")


def test_the_judge_of_images_notices_a_leak_and_a_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def leak(text: str, **_: object) -> object:
        raise ImageError(f"the picture is damaged: {text}" * 5)

    monkeypatch.setattr(targets, "decode_text", leak)
    with pytest.raises(AssertionError):
        targets.fuzz_images(seeds_of("images")[0])
