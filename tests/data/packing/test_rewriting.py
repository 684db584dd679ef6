"""Unpacking, subsets, merging and removing duplicates: what goes in comes out, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from facerec.cli.main import cli
from facerec.data.image_record import build_image_record
from facerec.data.pack import FacePack
from facerec.data.packing.combine import merge_packs, subset_pack
from facerec.data.packing.identities import list_identities
from facerec.data.packing.identity_names import HEADING, identity_line
from facerec.data.packing.unpack import safe_folder_name, unpack_path
from facerec.data.pairs import read_pairs, write_pairs
from facerec.data.record_writer import RecordWriter
from facerec.data.synthetic import write_synthetic_pack
from facerec.errors import DataError, UsageError
from tests.packs import draw, encode_png, write_pack, write_pair_set
from tests.photos import write_people

FILES = ("train.rec", "train.idx", "property", "identities.tsv")


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(cli, ["data", *map(str, arguments), "--json"])
    assert result.exit_code == 0, repr(result.exception)
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result: Result = CliRunner().invoke(cli, ["data", *map(str, arguments)])
    assert isinstance(result.exception, (UsageError, DataError)), repr(result.exception)
    return str(result.exception)


def images_of(path: Path) -> dict[int, list[bytes]]:
    return {one.label: [image for _, image in one.images()] for one in list_identities(FacePack.open(path))}


def test_a_pack_that_is_unpacked_and_packed_again_has_the_same_bytes(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"Ann": 3, "Bob Ö": 1, "Cy": 2})
    run("pack", people, tmp_path / "one", "--size", 32, "--workers", 0)
    facts = run("unpack", tmp_path / "one", tmp_path / "files")
    assert (facts["num_images"], facts["num_identities"], facts["renamed"]) == (6, 3, 0)
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["Ann", "Bob Ö", "Cy"]
    run("pack", tmp_path / "files", tmp_path / "two", "--size", 32, "--workers", 0)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_packs_of_others_are_unpacked_under_their_labels(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=11, pictures=2)
    unpack_path(pack, tmp_path / "files")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [f"{label:02d}" for label in range(11)]
    assert (tmp_path / "files" / "03" / "000000007.png").read_bytes() == images_of(pack)[3][0]


@pytest.mark.parametrize("name", ["../../escaped", "/etc/x", "..", ".hidden", "", "a/b", "nul\0", " x", "y" * 300])
def test_names_never_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    assert not safe_folder_name(name)
    pack = write_pack(tmp_path / "deep" / "pack", identities=2, pictures=1)
    (pack / "identities.tsv").write_bytes(HEADING + identity_line(0, 1, name) + identity_line(1, 1, "fine"))
    made = unpack_path(pack, tmp_path / "deep" / "files")
    assert made.num_renamed == 1
    assert sorted(path.name for path in made.folder.iterdir()) == ["fine", "identity 0"]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_a_name_made_of_a_label_may_be_somebodys_already(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=2, pictures=1)
    (pack / "identities.tsv").write_bytes(HEADING + identity_line(0, 1, "identity 1") + identity_line(1, 1, ".x"))
    made = unpack_path(pack, tmp_path / "files")
    assert sorted(path.name for path in made.folder.iterdir()) == ["identity 1", "identity 1_"]


def test_names_of_another_pack_are_refused(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=2, pictures=1)
    (pack / "identities.tsv").write_bytes(HEADING + identity_line(0, 2, "a"))
    with pytest.raises(DataError, match="does not fit"):
        list_identities(FacePack.open(pack))
    (pack / "identities.tsv").write_bytes(HEADING + b"1\t2\n")
    with pytest.raises(DataError, match="line 2"):
        list_identities(FacePack.open(pack))


def test_of_two_commands_that_unpack_into_one_folder_the_second_to_end_is_refused(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=3, pictures=2)
    ended: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if not ended:
            ended.append(unpack_path(pack, tmp_path / "files").num_images)

    with pytest.raises(UsageError, match=r"files has appeared in the meantime; move it away, then run the command"):
        unpack_path(pack, tmp_path / "files", progress=meanwhile)
    assert ended == [6]
    assert len(list((tmp_path / "files").rglob("*.png"))) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "pack"]


def test_of_two_commands_that_write_one_pack_the_second_to_end_is_refused(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=3, pictures=2)
    ended: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if not ended:
            ended.append(0)
            ended.append(subset_pack(pack, tmp_path / "few", num_identities=1).num_images)

    with pytest.raises(UsageError, match="few has appeared in the meantime"):
        subset_pack(pack, tmp_path / "few", num_identities=2, progress=meanwhile)
    assert ended == [0, 2]
    assert FacePack.open(tmp_path / "few").num_classes == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "pack"]


def test_a_pair_set_that_is_unpacked_and_packed_again_has_the_same_bytes(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=1, images_per_identity=1, side=32, num_pairs=60)
    assert made.bin_path is not None
    facts = run("unpack", made.bin_path, tmp_path / "files")
    assert facts["num_pairs"] == 60
    lines = (tmp_path / "files" / "pairs.txt").read_text().splitlines()
    assert lines[0] == "10\t3"
    files = tmp_path / "files"
    arguments = ["--pairs", files / "pairs.txt", "--bin", "again.bin", "--size", 32, "--workers", 0]
    run("pack", files, tmp_path / "two", *arguments)
    assert (tmp_path / "two" / "again.bin").read_bytes() == made.bin_path.read_bytes()


def test_pairs_that_contradict_each_other_survive_unpacking(tmp_path: Path) -> None:
    a, b, c = (encode_png(draw(person, 1)) for person in range(3))
    write_pairs(tmp_path / "x.bin", [a, b, b, c, a, c, a, a], [True, True, False, False])
    run("unpack", tmp_path / "x.bin", tmp_path / "files")
    files = tmp_path / "files"
    run("pack", files, tmp_path / "two", "--pairs", files / "pairs.txt", "--bin", "x.bin", "--size", 32, "--workers", 0)
    again = read_pairs(tmp_path / "two" / "x.bin")
    assert again.issame.tolist() == [True, True, False, False]
    original = read_pairs(tmp_path / "x.bin")
    from facerec.data.decode import decode_image

    for one, other in zip(original.images, again.images, strict=True):
        # PNGs become JPEGs.
        assert np.abs(decode_image(one).astype(int) - decode_image(other)).mean() < 8


def test_a_subset_has_whole_identities_in_their_order_with_new_labels(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {f"p{i:02d}": 1 + i % 4 for i in range(20)})
    run("pack", people, tmp_path / "all", "--size", 32, "--workers", 0)
    facts = run("subset", tmp_path / "all", tmp_path / "some", "--identities", 6, "--min-images", 3, "--seed", 9)
    assert facts["num_identities"] == 6
    chosen = list_identities(FacePack.open(tmp_path / "some"))
    source = {
        one.name: [image for _, image in one.images()] for one in list_identities(FacePack.open(tmp_path / "all"))
    }
    assert [one.label for one in chosen] == list(range(6))
    assert [one.name for one in chosen] == sorted(one.name for one in chosen)
    for one in chosen:
        assert len(one.keys) >= 3
        assert [image for _, image in one.images()] == source[one.name]
    again = subset_pack(tmp_path / "all", tmp_path / "again", num_identities=6, min_images=3, seed=9)
    assert (again.folder / "train.rec").read_bytes() == (tmp_path / "some" / "train.rec").read_bytes()
    other = subset_pack(tmp_path / "all", tmp_path / "other", num_identities=6, min_images=3, seed=10)
    assert (other.folder / "identities.tsv").read_bytes() != (tmp_path / "some" / "identities.tsv").read_bytes()


def test_subsets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", identities=4, pictures=2)
    assert "has 4 identities with at least 2 images, not 5" in refused(
        "subset", pack, tmp_path / "x", "--identities", 5, "--min-images", 2
    )
    assert "at least one" in refused("subset", pack, tmp_path / "x", "--identities", 0)
    assert "exists already" in refused("subset", pack, pack, "--identities", 1)
    assert not (tmp_path / "x").exists()


def test_merging_offsets_the_labels(tmp_path: Path) -> None:
    one = write_pack(tmp_path / "one", identities=3, pictures=2)
    people = write_people(tmp_path / "people", {"a": 1, "b": 2})
    run("pack", people, tmp_path / "two", "--size", 32, "--workers", 0)
    facts = run("merge", one, tmp_path / "two", tmp_path / "both")
    assert (facts["num_images"], facts["num_identities"]) == (9, 5)
    merged = images_of(tmp_path / "both")
    assert [merged[label] for label in range(3)] == list(images_of(one).values())
    assert [merged[label] for label in (3, 4)] == list(images_of(tmp_path / "two").values())
    names = [identity.name for identity in list_identities(FacePack.open(tmp_path / "both"))]
    assert names == ["one/0", "one/1", "one/2", "two/a", "two/b"]


def test_merging_refuses_what_does_not_fit(tmp_path: Path) -> None:
    one, two = write_pack(tmp_path / "one", side=32), write_pack(tmp_path / "two", side=48)
    with pytest.raises(UsageError, match="need one size"):
        merge_packs([one, two], tmp_path / "both")
    assert "at least two packs" in refused("merge", one, tmp_path / "both")


def test_mxnet_packs_without_a_header_are_rewritten(shared_data: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(shared_data / "mxnet" / "veclabel", tmp_path / "veclabel"))
    before = images_of(source)
    made = merge_packs([source, source], tmp_path / "both")
    assert made.num_identities == 2 * len(before)
    assert list(images_of(tmp_path / "both").values()) == [*before.values(), *before.values()]


@pytest.fixture
def repeated(tmp_path: Path) -> Path:
    """Four identities: 0 has an image twice, 1 and 2 share one, 3 has one of the pair set."""
    own = {(identity, number): encode_png(draw(identity, number)) for identity in range(4) for number in range(3)}
    rows = [(0, own[0, 0]), (0, own[0, 1]), (0, own[0, 0]), (1, own[1, 0]), (1, own[1, 1]), (2, own[1, 1]),
            (2, own[2, 0]), (3, own[3, 0]), (3, own[3, 1])]  # fmt: skip
    folder = tmp_path / "repeated"
    folder.mkdir()
    with RecordWriter(folder / "train.rec") as writer:
        for key, (label, image) in enumerate(rows):
            writer.write(key, build_image_record(image, label=label))
    write_pairs(tmp_path / "x.bin", [own[3, 0], own[3, 2]], [True])
    return folder


def test_equal_images_are_found_and_removed(repeated: Path, tmp_path: Path) -> None:
    arguments = ["dedupe", repeated, "--against", tmp_path / "x.bin", "--output", tmp_path / "clean"]
    facts = run(*arguments)
    assert facts["equal_within_identities"] == [[0, 2]]
    assert facts["equal_between_identities"] == [[4, 5]]
    assert facts["images_in_pair_set"] == [7]
    assert facts["written"]["num_images"] == 5
    assert {label: len(images) for label, images in images_of(tmp_path / "clean").items()} == {0: 2, 1: 1, 2: 1, 3: 1}
    rows = [line.split("\t") for line in (tmp_path / "clean" / "removed.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["key", "label"], ["2", "0"], ["4", "1"], ["5", "2"], ["7", "3"]]
    assert "labels 1, 2" in rows[2][2]
    assert run("dedupe", tmp_path / "clean")["equal_within_identities"] == []


def test_the_report_for_people_names_the_keys(repeated: Path, tmp_path: Path) -> None:
    text = CliRunner().invoke(cli, ["data", "dedupe", str(repeated), "--against", str(tmp_path / "x.bin")]).output
    assert "keys 0, 2" in text
    assert "1 images are in the pair set" in text


def test_a_model_without_a_pair_set_is_refused(repeated: Path) -> None:
    assert "--against" in refused("dedupe", repeated, "--model", "x")


def test_what_is_not_there_or_full_is_said(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    assert "exists already" in refused("unpack", pack, tmp_path)
    assert "exists already" in refused("unpack", write_pair_set(tmp_path / "x.bin"), tmp_path)
