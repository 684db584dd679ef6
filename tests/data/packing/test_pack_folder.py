"""Packing a folder of photographs: what comes out, and what bad folders, kills and full disks leave behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from facerec.cli.main import cli
from facerec.data.decode import decode_image
from facerec.data.pack import FacePack
from facerec.data.packing.identity_names import read_identities
from facerec.data.pairs import read_pairs
from facerec.errors import DataError, FacerecError, PairSetError, UsageError
from tests.photos import encode, photograph, write_people

FILES = ("train.rec", "train.idx", "property", "identities.tsv")


def pack(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["data", "pack", "--size", "32", "--workers", "0", "--json", *map(str, arguments)])


def packed(*arguments: object) -> dict:
    result = pack(*arguments)
    assert result.exit_code == 0, repr(result.exception)
    return json.loads(result.stdout)


def refused(*arguments: object) -> FacerecError:
    result = pack(*arguments)
    assert isinstance(result.exception, FacerecError), result.output
    return result.exception


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_people_become_identities_in_the_order_of_their_names(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"Zoë": 2, "Anna Lee": 3, "李雷": 1, "a\tb": 1})
    facts = packed(people, tmp_path / "out")
    assert (facts["num_images"], facts["num_identities"], facts["rejected"]) == (7, 4, [])
    named = read_identities(tmp_path / "out" / "identities.tsv")
    assert named is not None
    assert [(row.label, row.num_images, row.name) for row in named] == [
        (0, 3, "Anna Lee"), (1, 2, "Zoë"), (2, 1, "a\tb"), (3, 1, "李雷"),
    ]  # fmt: skip
    pack = FacePack.open(tmp_path / "out")
    assert pack.labels().tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert bytes(pack.read_image(2).image) == (people / "Anna Lee" / "Anna Lee_0002.jpg").read_bytes()
    assert np.frombuffer(pack.reader.read(0), "<f4", offset=24).tolist() == [8, 12]
    assert np.frombuffer(pack.reader.read(9), "<f4", offset=24).tolist() == [4, 6]


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {f"p{i}": 9 for i in range(8)}, side=40)
    packed(people, tmp_path / "one")
    arguments = ["data", "pack", str(people), str(tmp_path / "two"), "--size", "32", "--workers", "2"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(("fit", "left"), [("crop", 200), ("pad", 0), ("stretch", 200)])
def test_other_sizes_and_formats_are_fitted(tmp_path: Path, fit: str, left: int) -> None:
    wide = np.full((40, 40, 3), 200, dtype=np.uint8)
    wide = np.hstack([wide, wide]) if fit != "pad" else wide.repeat(2, axis=0)
    (tmp_path / "people" / "x").mkdir(parents=True)
    Image.fromarray(wide).save(tmp_path / "people" / "x" / "1.png")
    packed(tmp_path / "people", tmp_path / "out", "--fit", fit)
    image = decode_image(FacePack.open(tmp_path / "out").read_image(1).image)
    assert image.shape == (32, 32, 3)
    assert abs(int(image[16, 1, 0]) - left) < 4
    assert abs(int(image[16, 16, 0]) - 200) < 4


def test_a_picture_is_turned_upright_before_its_size_counts(tmp_path: Path) -> None:
    pixels = photograph(1, 1)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, exif=exif)
    (tmp_path / "people" / "x").mkdir(parents=True)
    (tmp_path / "people" / "x" / "1.jpg").write_bytes(stream.getvalue())
    packed(tmp_path / "people", tmp_path / "out")
    image = decode_image(FacePack.open(tmp_path / "out").read_image(1).image).astype(int)
    assert np.abs(image - np.rot90(decode_image(stream.getvalue()), -1)).mean() < 3


def test_bad_images_stop_the_packing_or_are_listed(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 2, "b": 1, "c": 1})
    (people / "a" / "a_0001.jpg").write_bytes(b"\xff\xd8 broken")
    (people / "b" / "b_0001.jpg").write_bytes(b"")
    (people / "c" / "notes.txt").write_text("no image")
    (tmp_path / "secret.jpg").write_bytes(encode(photograph(9, 9)))
    (people / "c" / "out.jpg").symlink_to("../../secret.jpg")
    os.mkfifo(people / "c" / "pipe.jpg")
    (people / "elsewhere").symlink_to("/etc")
    error = refused(people, tmp_path / "out")
    assert isinstance(error, DataError)
    assert "--on-bad-image skip" in str(error)
    facts = packed(people, tmp_path / "out", "--on-bad-image", "skip")
    assert (facts["num_images"], facts["num_identities"]) == (2, 2)
    assert facts["other_files"] == 1
    reasons = {row["path"]: row["reason"] for row in facts["rejected"]}
    assert set(reasons) == {"a/a_0001.jpg", "b/b_0001.jpg", "c/out.jpg", "c/pipe.jpg", "elsewhere"}
    assert "leads out" in reasons["c/out.jpg"]
    assert "empty" in reasons["b/b_0001.jpg"]
    assert len((tmp_path / "out" / "rejected.tsv").read_text().splitlines()) == 6
    assert FacePack.open(tmp_path / "out").labels().tolist() == [0, 1]


def test_links_that_lead_nowhere_or_in_a_circle_are_listed(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 1})
    (people / "a" / "circle.jpg").symlink_to("circle.jpg")
    (people / "a" / "dangling.jpg").symlink_to("nothing.jpg")
    (people / "circle").symlink_to("circle")
    (people / "a" / "inside.jpg").symlink_to("a_0001.jpg")
    (people / "a" / "swapped.jpg").symlink_to(".")
    facts = packed(people, tmp_path / "out", "--on-bad-image", "skip")
    assert facts["num_images"] == 2
    assert {row["path"] for row in facts["rejected"]} == {"a/circle.jpg", "a/dangling.jpg", "a/swapped.jpg"}


def test_people_with_too_few_images_are_left_out_and_listed(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 1, "b": 3})
    facts = packed(people, tmp_path / "out", "--min-images", "2")
    assert (facts["num_images"], facts["num_identities"]) == (3, 1)
    assert facts["rejected"] == [{"path": "a", "reason": "only 1 images, 2 are asked for"}]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 1})
    packed(people, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert isinstance(refused(people, tmp_path / "out"), UsageError)
    assert contents(tmp_path / "out") == before
    assert "inside" in str(refused(people, people / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "people"]


def test_held_out_people_are_in_the_pairs_and_not_in_the_pack(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {f"p{i:02d}": 4 for i in range(30)})
    hold = ["--holdout-identities", 20, "--num-pairs", 40, "--seed", 5, "--bin", "mine.bin"]
    facts = packed(people, tmp_path / "out", *hold)
    assert (facts["num_identities"], facts["num_pairs"], facts["pair_identities"]) == (10, 40, 20)
    named = read_identities(tmp_path / "out" / "identities.tsv")
    assert named is not None
    trained = {row.name for row in named}
    owner = {path.read_bytes(): path.parent.name for path in people.rglob("*.jpg")}
    pairs = read_pairs(tmp_path / "out" / "mine.bin")
    names = [owner[image] for image in pairs.images]
    assert trained.isdisjoint(names)
    assert [a == b for a, b in zip(names[0::2], names[1::2], strict=True)] == pairs.issame.tolist()
    np.testing.assert_array_equal(pairs.issame, np.tile([True, True, False, False], 10))
    folds = [set(names[8 * fold : 8 * fold + 8]) for fold in range(10)]
    assert sum(len(fold) for fold in folds) == len(set().union(*folds)), "no person is in two folds"


def test_a_list_of_lfw_is_followed_line_by_line(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"Ann A": 3, "Bob": 2, "Cy": 2, "Dee": 1})
    listed = tmp_path / "pairs.txt"
    listed.write_text("1\t1\nAnn A\t1\t3\nAnn A\t2\tBob\t1\n")
    facts = packed(people, tmp_path / "out", "--pairs", listed, "--bin", "lfw.bin")
    assert (facts["num_pairs"], facts["num_identities"], facts["pair_identities"]) == (2, 2, 2)
    pairs = read_pairs(tmp_path / "out" / "lfw.bin")
    expected = ["Ann A/Ann A_0001", "Ann A/Ann A_0003", "Ann A/Ann A_0002", "Bob/Bob_0001"]
    assert list(pairs.images) == [(people / f"{name}.jpg").read_bytes() for name in expected]
    assert pairs.issame.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../secret\t1\t2\n", "no person '../secret'"),
        ("Ann\t1\t7\n", "none is '7'"),
        ("Ann\t../../secret.jpg\t1\n", r"none is '\.\./\.\./secret\.jpg'"),
        ("Ann\t1\n", "separate the columns by tabs"),
        ("Ann\t1\tAnn\t2\n", "names 'Ann' twice"),
        ("10\t300\nAnn\t1\t2\n", "announces 6000 pairs"),
        ("\n", "holds no pairs"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    people = write_people(tmp_path / "people", {"Ann": 2, "Bob": 1})
    (tmp_path / "secret.jpg").write_bytes(encode(photograph(9, 9)))
    (tmp_path / "pairs.txt").write_text(text)
    error = refused(people, tmp_path / "out", "--pairs", tmp_path / "pairs.txt")
    assert isinstance(error, PairSetError)
    with pytest.raises(PairSetError, match=message):
        raise error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--holdout-identities", 1], "give both"),
        (["--holdout-identities", 3, "--num-pairs", 20], "nobody is left"),
        (["--holdout-identities", 2, "--num-pairs", 2000], "ask for fewer pairs"),
        (["--bin", "../x.bin"], "no name for a pair set"),
        (["--bin", ".bin"], "no name for a pair set"),
        (["--quality", 0], "1 to 100"),
        (["--size", "axb"], "no size"),
    ],
)
def test_options_that_cannot_be_met_are_refused_before_any_work(tmp_path: Path, arguments: list, message: str) -> None:
    people = write_people(tmp_path / "people", {"a": 2, "b": 2, "c": 2})
    error = refused(people, tmp_path / "out", *arguments)
    assert message in str(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 images of 250 people, quickly written."""
    folder = tmp_path_factory.mktemp("crowd") / "people"
    image = [encode(photograph(0, number)) for number in range(5)]
    for person in range(250):
        (folder / f"p{person:03d}").mkdir(parents=True)
        for number in range(20):
            (folder / f"p{person:03d}" / f"{number}.jpg").write_bytes(image[(person + number) % 5])
    return folder


@pytest.fixture(scope="module")
def crowd_packed(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert packed(crowd, out)["num_images"] == 5000
    return contents(out)


def start(*arguments: object, before: str = "pass") -> subprocess.Popen[str]:
    code = f"import sys; {before}; from facerec.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "data", "pack", *map(str, arguments), "--size", "32"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_packing_goes_on_and_gives_the_same_bytes(
    crowd: Path, crowd_packed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(crowd, out, "--workers", 2)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".partial-out.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    other = pack(crowd, out, "--quality", "50")
    assert isinstance(other.exception, UsageError)
    assert "--restart" in str(other.exception)
    facts = packed(crowd, out)
    assert 2000 <= facts["resumed_at"] < 5000
    assert contents(out) == crowd_packed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_packing_goes_on_later(
    crowd: Path, crowd_packed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    limit = len(crowd_packed["train.rec"]) * 2 // 3
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    process = start(crowd, out, "--workers", 0, before=before)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1, errors
    assert "no space is left" in errors
    assert "run the same command" in errors
    assert not out.exists()
    assert packed(crowd, out)["resumed_at"] >= 2000
    assert contents(out) == crowd_packed


def test_a_file_that_a_killed_process_was_writing_is_not_published(tmp_path: Path) -> None:
    from facerec.data.packing.work_folder import WorkFolder, work_folder

    work = WorkFolder(tmp_path / "out", "x")
    work.open(restart=False)
    (work.path / ".partial-holdout.bin-abc").write_bytes(b"torn")
    work.note(pack={})
    work.close()
    with work_folder(tmp_path / "out", plan="x"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_two_processes_do_not_pack_into_one_folder(tmp_path: Path) -> None:
    from facerec.data.packing.work_folder import work_folder

    people = write_people(tmp_path / "people", {"a": 1})
    with work_folder(tmp_path / "out", plan="x"):
        error = refused(people, tmp_path / "out")
    assert isinstance(error, UsageError)
    assert "another process" in str(error)


def test_restart_throws_the_remains_away(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 1})
    (tmp_path / ".partial-out").mkdir()
    (tmp_path / ".partial-out" / "train.rec").write_bytes(b"old")
    (tmp_path / ".partial-out.json").write_text('{"plan": "another"}')
    assert "--restart" in str(refused(people, tmp_path / "out"))
    assert packed(people, tmp_path / "out", "--restart")["num_images"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "people"]


def test_a_failure_before_anything_is_noted_leaves_nothing(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 2})
    (people / "a" / "a_0002.jpg").write_bytes(b"broken")
    assert "a_0002.jpg cannot be packed" in str(refused(people, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    (people / "a" / "a_0002.jpg").unlink()
    assert packed(people, tmp_path / "out")["num_images"] == 1


def test_deeper_folders_belong_to_the_person_and_hidden_ones_to_nobody(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"a": 1})
    image = (people / "a" / "a_0001.jpg").read_bytes()
    for name in ("a/video 1/x.jpg", "a/.hidden/x.jpg", ".thumbs/x.jpg", "a/.x.jpg"):
        (people / name).parent.mkdir(parents=True, exist_ok=True)
        (people / name).write_bytes(image)
    facts = packed(people, tmp_path / "out")
    assert (facts["num_images"], facts["num_identities"], facts["other_files"]) == (2, 1, 0)


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    people = tmp_path / "people"
    for name in (b"caf\xe9", b"plain"):
        folder = os.fsencode(people) + b"/" + name
        os.makedirs(folder)
        Path(os.fsdecode(folder + b"/1.jpg")).write_bytes(encode(photograph(1, 1)))
    Path(os.fsdecode(os.fsencode(people) + b"/caf\xe9/2\xff.jpg")).write_bytes(b"broken")
    facts = packed(people, tmp_path / "out", "--on-bad-image", "skip")
    assert facts["rejected"][0]["path"] == "caf\ufffd/2\ufffd.jpg"
    assert b"0\t1\tcaf\xe9\n" in (tmp_path / "out" / "identities.tsv").read_bytes()
    assert b"caf\xe9/2\xff.jpg\t" in (tmp_path / "out" / "rejected.tsv").read_bytes()
    result = CliRunner().invoke(cli, ["data", "unpack", str(tmp_path / "out"), str(tmp_path / "files")])
    assert result.exit_code == 0
    assert b"caf\xe9" in os.listdir(os.fsencode(tmp_path / "files"))


def test_where_everybody_is_in_the_pairs_there_is_only_a_pair_set(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"Ann": 2, "Bob": 1})
    (tmp_path / "pairs.txt").write_text("Ann\t1\t2\nAnn\t1\tBob\t1\n")
    result = CliRunner().invoke(
        cli,
        ["data", "pack", str(people), str(tmp_path / "out"), "--pairs", str(tmp_path / "pairs.txt"), "--size", "32"],
    )
    assert result.exit_code == 0, result.exception
    assert "no train.rec" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["holdout.bin"]


def test_pairs_with_a_broken_picture_are_left_out_on_request(tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"Ann": 3, "Bob": 1, "Cy": 1})
    (people / "Ann" / "Ann_0002.jpg").write_bytes(b"broken")
    (tmp_path / "pairs.txt").write_text("Ann\t1\t2\nAnn\t1\t3\nAnn\t1\tBob\t1\n")
    assert "Ann_0002.jpg cannot be packed" in str(refused(people, tmp_path / "out", "--pairs", tmp_path / "pairs.txt"))
    facts = packed(people, tmp_path / "out", "--pairs", tmp_path / "pairs.txt", "--on-bad-image", "skip", "--restart")
    assert (facts["num_pairs"], facts["num_images"], len(facts["rejected"])) == (2, 1, 1)
    assert read_pairs(tmp_path / "out" / "holdout.bin").issame.tolist() == [True, False]
