"""Galleries: exact search, a threshold that strangers do not pass more often than stated, files that are checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facerec.errors import DataError, ImageError, MissingPathError, UsageError
from facerec.serving import gallery as gallery_module
from facerec.serving.enrol import enrol, find_people, identification_threshold
from facerec.serving.gallery import Gallery, GalleryFacts, gallery_files, load_gallery, save_gallery
from facerec.serving.predictor import Predictor
from tests.serving.models import face


def unit(count: int, *, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def make(count: int = 20, **changes: object) -> Gallery:
    facts = {
        "names": tuple(f"person {k}" for k in range(count)),
        "counts": (1,) * count,
        "weights_sha256": "ab" * 32,
        "flip": True,
        "threshold": 0.5,
        "fpir": 0.01,
        "fpir_interval": (0.0, 0.02),
        "fpir_searches": count,
    }
    return Gallery(unit(count), GalleryFacts(**{**facts, **changes}))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 people with 3 pictures, and one who has a single picture beside the folders."""
    folder = tmp_path_factory.mktemp("people")
    for person in range(12):
        (folder / f"person {person:02}").mkdir()
        for picture in range(3):
            (folder / f"person {person:02}" / f"{picture}.png").write_bytes(face(3000 + person, picture))
    (folder / "single.png").write_bytes(face(4000))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor(checkpoint_path=checkpoint, use_cpu=True)


def test_the_nearest_are_those_of_brute_force() -> None:
    gallery = make(50)
    query = unit(1, seed=9)[0]
    scores = [float(template @ query) for template in gallery.templates]
    expected = sorted(range(50), key=lambda k: -scores[k])[:7]
    found = gallery.search(query, top=7)
    assert [name for name, _ in found] == [f"person {k}" for k in expected]
    np.testing.assert_allclose([score for _, score in found], [scores[k] for k in expected], atol=1e-6)
    assert len(gallery.search(query, top=500)) == 50


def test_a_gallery_survives_its_file(tmp_path: Path) -> None:
    gallery = make(names=tuple(f"Zoë {k}" for k in range(20)))
    save_gallery(gallery, tmp_path / "g.safetensors")
    read = load_gallery(tmp_path / "g.safetensors")
    assert read.facts == gallery.facts
    np.testing.assert_array_equal(read.templates, gallery.templates)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_gallery(make(), path)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-50], b"\xff" * 200):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="build it again"):
            load_gallery(path)
    with pytest.raises(MissingPathError):
        load_gallery(tmp_path / "absent")


def test_another_model_is_refused() -> None:
    gallery = make()
    gallery.check_model("ab" * 32, flip=True)
    with pytest.raises(UsageError, match="another model"):
        gallery.check_model("cd" * 32, flip=True)
    with pytest.raises(UsageError, match="setting of the flip"):
        gallery.check_model("ab" * 32, flip=False)


def test_people_are_folders_and_single_pictures(people: Path, tmp_path: Path) -> None:
    found = find_people(people)
    assert list(found) == [*(f"person {k:02}" for k in range(12)), "single"]
    assert [len(pictures) for pictures in found.values()] == [3] * 12 + [1]
    with pytest.raises(MissingPathError):
        find_people(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no pictures"):
        find_people(tmp_path)
    (tmp_path / "x.png").touch()
    (tmp_path / "x.jpg").touch()
    with pytest.raises(DataError, match="two entries for 'x'"):
        find_people(tmp_path)


def test_deeper_folders_belong_to_their_person_as_in_packing(tmp_path: Path) -> None:
    for name in (
        "ann/1.jpg",
        "ann/2020/2.PNG",
        "ann/2020/may/3.pgm",
        "ann/.thumbnails/4.jpg",
        ".cache/5.jpg",
        "b/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "ann" / "circle").symlink_to(tmp_path / "ann")
    found = find_people(tmp_path)
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        "ann": ["1.jpg", "2.PNG", "3.pgm"]
    }


def test_a_new_picture_finds_its_person(people: Path, predictor: Predictor, tmp_path: Path) -> None:
    gallery = enrol(people, predictor, fpir=0.1)
    assert gallery.facts.counts == (3,) * 12 + (1,)
    np.testing.assert_allclose(np.linalg.norm(gallery.templates, axis=1), 1.0, atol=1e-6)
    hits = 0
    for person in range(12):
        (tmp_path / "new.png").write_bytes(face(3000 + person, 77))
        (embedding,) = predictor.embed(tmp_path / "new.png")
        hits += gallery.search(embedding, top=1)[0][0] == f"person {person:02}"
    assert hits >= 10
    gallery.check_model(predictor.weights_sha256, flip=True)


def test_a_broken_picture_is_named(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        enrol(tmp_path, predictor)


def test_one_person_gives_no_threshold(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(face(1))
    assert enrol(tmp_path, predictor).threshold is None


@pytest.mark.parametrize("fpir", [0.01, 0.05, 0.5])
def test_strangers_pass_the_threshold_at_most_as_often_as_stated(fpir: float) -> None:
    embeddings, templates = unit(300, seed=1), unit(100, seed=2)
    owners = np.arange(300) % 100
    threshold, (low, high) = identification_threshold(embeddings, owners, templates, fpir=fpir)
    scores = embeddings @ templates.T
    scores[np.arange(300), owners] = -2.0
    rate = float(np.mean(scores.max(axis=1) >= threshold))
    assert rate <= fpir
    # One stranger more would be too many.
    assert rate > fpir - 1.01 / 300
    assert low <= rate <= high


def test_equal_scores_are_not_split() -> None:
    templates = np.eye(4, dtype=np.float32)
    embeddings = np.repeat(np.full((1, 4), 0.5, np.float32), 10, axis=0)
    threshold, _ = identification_threshold(embeddings, np.zeros(10, np.intp), templates, fpir=0.3)
    assert threshold > 0.5


def test_a_large_gallery_is_searched_by_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="the index needs the extra 'index'")
    monkeypatch.setattr(gallery_module, "INDEX_FROM", 100)
    gallery = make(2000)
    path = tmp_path / "g.safetensors"
    save_gallery(gallery, path)
    assert path.with_suffix(".faiss").is_file()
    indexed = load_gallery(path)
    queries = unit(200, seed=5)
    agree = sum(indexed.search(query, top=1)[0][0] == gallery.search(query, top=1)[0][0] for query in queries)
    assert agree >= 196
    path.with_suffix(".faiss").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"index .* is damaged"):
        load_gallery(path)
    path.with_suffix(".faiss").unlink()
    with pytest.raises(MissingPathError, match="index"):
        load_gallery(path)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A gallery of 200 people with its index, as a gallery of that size has none otherwise."""
    pytest.importorskip("faiss", reason="the index needs the extra 'index'")
    monkeypatch.setattr(gallery_module, "INDEX_FROM", 100)
    path = tmp_path / "g.safetensors"
    save_gallery(make(200), path)
    return path


def test_an_index_of_an_earlier_build_is_refused(indexed: Path, tmp_path: Path) -> None:
    gallery = load_gallery(indexed)
    # As many templates of the same length, which a comparison of shapes would let through.
    save_gallery(Gallery(unit(200, seed=1), gallery.facts), tmp_path / "other.safetensors")
    indexed.write_bytes((tmp_path / "other.safetensors").read_bytes())
    with pytest.raises(DataError, match="belongs to another gallery"):
        load_gallery(indexed)


def test_an_index_of_another_kind_is_refused(indexed: Path) -> None:
    import faiss

    templates = load_gallery(indexed).templates
    dimensions = templates.shape[1]
    for index in (faiss.IndexFlatIP(dimensions), faiss.IndexHNSWFlat(dimensions, 8, faiss.METRIC_L2)):
        index.add(templates)
        faiss.write_index(index, str(indexed.with_suffix(".faiss")))
        with pytest.raises(DataError, match="of a kind that"):
            load_gallery(indexed)


def test_an_index_left_beside_a_smaller_gallery_is_no_part_of_it(indexed: Path) -> None:
    assert gallery_files(indexed, people=200) == (indexed, indexed.with_suffix(".faiss"))
    save_gallery(make(20), indexed)
    assert indexed.with_suffix(".faiss").is_file()
    assert gallery_files(indexed, people=20) == (indexed,)
    query = unit(1, seed=9)[0]
    assert load_gallery(indexed).search(query) == make(20).search(query)


def test_a_gallery_cannot_have_the_name_of_its_index(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ending of a gallery's index"):
        save_gallery(make(3), tmp_path / "g.faiss")


def test_the_header_says_what_the_gallery_is(tmp_path: Path) -> None:
    save_gallery(make(3), tmp_path / "g.safetensors")
    content = (tmp_path / "g.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["facerec_gallery"])["names"] == ["person 0", "person 1", "person 2"]
