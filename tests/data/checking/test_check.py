"""``facerec data verify``: what is intact passes, and every fault is found and named by key and offset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.main import cli
from facerec.data.checking.check import CheckReport, check_path
from facerec.data.image_record import build_image_record
from facerec.data.pairs import write_pairs
from facerec.data.record_writer import MAGIC_BYTES, RecordWriter
from facerec.data.synthetic import write_synthetic_pack
from facerec.errors import MissingPathError
from tests.packs import draw, encode_png


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intact") / "pack"
    return write_synthetic_pack(folder, num_identities=4, images_per_identity=3, side=32, num_pairs=20).folder


@pytest.fixture
def pack(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "pack"))


def offsets_of(pack: Path) -> list[int]:
    return [int(line.split("\t")[1]) for line in (pack / "train.idx").read_text().splitlines()]


def change(path: Path, at: int, new: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(new)] = new
    path.write_bytes(content)


def check(path: Path, *, fast: bool = False) -> CheckReport:
    return check_path(path, fast=fast, workers=0)


def found(report: CheckReport) -> set[tuple[str, int | None, int | None]]:
    return {(finding.kind, finding.key, finding.offset) for finding in report.findings.kept}


def test_an_intact_pack_passes(pack: Path) -> None:
    report = check(pack)
    assert report.is_intact, report.findings
    assert (report.num_records, report.num_images, report.num_identities, report.num_decoded) == (17, 12, 4, 12)
    assert check(pack / "train.rec", fast=True).num_decoded == 0
    assert check(pack / "synthetic.bin").is_intact


@pytest.mark.parametrize("name", ["mxnet/small", "mxnet/veclabel", "mxnet/multipart/train.rec"])
def test_packs_of_mxnet_pass(shared_data: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(shared_data / "mxnet", tmp_path / "mxnet")
    report = check(tmp_path / name)
    assert report.is_intact, report.findings
    assert report.num_decoded > 5


def test_the_magic_in_a_payload_is_no_fault(tmp_path: Path) -> None:
    image = encode_png(draw(1, 1))
    with RecordWriter(tmp_path / "train.rec") as writer:
        for key in range(3):
            # Behind the end of a PNG anything may stand.
            padding = b"\0" * (-len(image) % 4)
            writer.write(key, build_image_record(image + padding + MAGIC_BYTES * 3 + b"x", label=0))
    report = check(tmp_path / "train.rec")
    assert report.is_intact, report.findings
    assert (report.num_records, report.num_decoded) == (3, 3)


def rec_change(key: int, delta: int, new: bytes) -> Callable[[Path], None]:
    return lambda pack: change(pack / "train.rec", offsets_of(pack)[key] + delta, new)


def floats(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("damage", "kind", "key"),
    [
        (rec_change(5, 0, b"\0"), "magic", None),
        (rec_change(5, 7, b"\xe0"), "continuation", None),
        (rec_change(5, 7, b"\x20"), "continuation", None),
        (rec_change(5, 12, floats(4)), "label", 5),
        (rec_change(5, 12, floats(0.5)), "label", 5),
        (rec_change(5, 12, floats(float("nan"))), "label", 5),
        (rec_change(5, 12, floats(3)), "identity", None),
        (rec_change(5, 8, b"\xff\xff\xff"), "payload", 5),
        (rec_change(5, 40, b"\xff" * 80), "image", 5),
        (rec_change(0, 32, floats(12)), "header", 0),
        (rec_change(0, 36, floats(99)), "header", 0),
        (rec_change(14, 32, floats(2)), "identity", 14),
        (rec_change(14, 36, floats(99)), "identity", 14),
    ],
)
def test_every_damage_to_a_record_is_found(pack: Path, damage: Callable[[Path], None], kind: str, key: int) -> None:
    damage(pack)
    report = check(pack)
    assert kind in report.findings.counts, report.findings
    if key is not None:
        assert any(finding.key == key and finding.kind == kind for finding in report.findings.kept), report.findings


def idx_change(old: str, new: str) -> Callable[[Path], None]:
    def damage(pack: Path) -> None:
        lines = (pack / "train.idx").read_text().splitlines()
        key = next(number for number, line in enumerate(lines) if line.startswith(old))
        lines[key] = new.format(old=lines[key], offset=lines[key].split("\t")[1])
        (pack / "train.idx").write_text("\n".join(line for line in lines if line) + "\n")

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (idx_change("5\t", ""), "has no key in the index"),
        (idx_change("5\t", "5\t999999999"), "past the end"),
        (idx_change("5\t", "5\t{offset}0"), "the middle of the record|past the end"),
        (idx_change("5\t", "5\t44"), "44, into the middle of the record at byte 40"),
        (idx_change("5\t", "5\t40"), "keys 1 and 5 share the record at byte 40"),
        (idx_change("5\t", "4\t{offset}"), "key 4 is named again"),
        (idx_change("5\t", "five\t{offset}"), "line 6: 'five"),
        (lambda pack: (pack / "train.idx").unlink(), "cannot be read"),
        (lambda pack: (pack / "train.idx").write_text(""), "names no record"),
        (lambda pack: (pack / "property").write_text("5,32,32\n"), "property says 5 identities, train.rec has 4"),
        (lambda pack: (pack / "property").write_text("4,32,32\n11\n"), "property says 11 images, train.rec has 12"),
        (lambda pack: (pack / "property").write_text("x"), "classes,height,width"),
        (lambda pack: (pack / "property").write_text("4,48,48\n"), "32x32 pixels, property says 48x48"),
        (lambda pack: (pack / "train.rec").write_bytes(b""), "is empty"),
    ],
)
def test_an_index_or_a_property_that_does_not_fit_is_found(
    pack: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(pack)
    report = check(pack)
    assert not report.is_intact
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(finding.message for finding in report.findings.kept))


def test_a_length_that_swallows_a_record_is_told_at_its_place(pack: Path) -> None:
    offsets = offsets_of(pack)
    change(pack / "train.rec", offsets[3] + 4, (offsets[5] - offsets[3] - 8).to_bytes(4, "little"))
    report = check(pack)
    assert ("index", 4, offsets[4]) in found(report)
    assert any(f"the record at byte {offsets[3]}" in finding.message for finding in report.findings.kept)


def test_a_length_that_ends_inside_the_next_record_costs_no_more_than_one(pack: Path) -> None:
    offsets = offsets_of(pack)
    change(pack / "train.rec", offsets[3] + 4, (offsets[4] - offsets[3] + 16).to_bytes(4, "little"))
    report = check(pack)
    assert ("length", None, offsets[3]) in found(report)
    assert report.num_decoded == 11


@pytest.mark.parametrize("cut", [1, 3, 30, 41, 200])
def test_a_file_that_is_cut_off_is_found(pack: Path, cut: int) -> None:
    content = (pack / "train.rec").read_bytes()
    (pack / "train.rec").write_bytes(content[:-cut])
    report = check(pack)
    assert "length" in report.findings.counts
    assert "index" in report.findings.counts


def test_hundreds_of_random_damages_are_reported_and_never_crash(intact: Path, tmp_path: Path) -> None:
    pack = Path(shutil.copytree(intact, tmp_path / "pack"))
    good = (pack / "train.rec").read_bytes()
    offsets = offsets_of(pack)
    random = np.random.default_rng(3)
    missed = []
    for case in range(300):
        content = bytearray(good)
        start = offsets[int(random.integers(len(offsets)))]
        # Every bit of the header of a record, its continuation and its own head.
        bit = int(random.integers(8 * 12))
        content[start + bit // 8] ^= 1 << bit % 8
        (pack / "train.rec").write_bytes(content)
        report = check(pack)
        length = int.from_bytes(good[start + 4 : start + 8], "little")
        changed = int.from_bytes(content[start + 4 : start + 8], "little")
        grew_into_padding = length < changed and (length + 3) // 4 == (changed + 3) // 4
        # Removing zeros from the end is as invisible: they may be padding.
        lost_zeros = changed < length and (length + 3) // 4 == (changed + 3) // 4 and not any(
            content[start + 8 + changed : start + 8 + length]
        )  # fmt: skip
        if report.is_intact and not (grew_into_padding or lost_zeros):
            missed.append((case, start, bit))
    assert not missed


def damage_at_random(good: bytes, index: str, random: np.random.Generator) -> tuple[bytes, str]:
    """A record file and an index of which one is damaged in a way that no reader can miss."""
    lines = index.splitlines()
    place = int(random.integers(len(lines)))
    start = int(lines[place].split("\t")[1])
    length = int.from_bytes(good[start + 4 : start + 8], "little")
    content = bytearray(good)
    kind = int(random.integers(7))
    if kind == 0:
        content[start + int(random.integers(4))] ^= 1 << int(random.integers(8))
    elif kind == 1:
        content[start + 7] ^= 0x20 << int(random.integers(3))
    elif kind == 2:
        # Another length whose padding ends elsewhere.
        new = int(random.integers(1 << 29))
        new += 4 * ((new + 3) // 4 == (length + 3) // 4)
        content[start + 4 : start + 8] = new.to_bytes(4, "little")
    elif kind == 3 and length % 4:
        content[start + 8 + length + int(random.integers(-length % 4))] = int(random.integers(1, 256))
    elif kind == 4:
        return good[: int(random.integers(len(good)))], index
    elif kind == 5:
        del lines[place]
    else:
        lines[place] = f"{lines[place].split(chr(9))[0]}\t{start + int(random.integers(1, 9999))}"
    return bytes(content), "\n".join(lines) + "\n"


@pytest.mark.slow
def test_two_thousand_damages_are_all_found(intact: Path, tmp_path: Path) -> None:
    pack = Path(shutil.copytree(intact, tmp_path / "pack"))
    good, index = (pack / "train.rec").read_bytes(), (pack / "train.idx").read_text()
    random = np.random.default_rng(11)
    for case in range(2000):
        content, lines = damage_at_random(good, index, random)
        (pack / "train.rec").write_bytes(content)
        (pack / "train.idx").write_text(lines)
        report = check(pack)
        assert not report.is_intact, case
        places = [finding for finding in report.findings.kept if finding.offset is not None or finding.key is not None]
        assert places or not content, (case, report.findings.kept)


def test_damaged_bytes_anywhere_never_crash(intact: Path, tmp_path: Path) -> None:
    pack = Path(shutil.copytree(intact, tmp_path / "pack"))
    good = (pack / "train.rec").read_bytes()
    random = np.random.default_rng(4)
    for _ in range(100):
        content = bytearray(good)
        begin = int(random.integers(len(content)))
        count = int(random.integers(1, 64))
        content[begin : begin + count] = random.bytes(min(count, len(content) - begin))
        (pack / "train.rec").write_bytes(content)
        assert check(pack).num_records >= 10
    for cut in random.integers(len(good), size=50).tolist():
        (pack / "train.rec").write_bytes(good[:cut])
        assert not check(pack).is_intact


def test_pair_sets_are_checked(tmp_path: Path) -> None:
    images = [encode_png(draw(person, 1)) for person in range(4)]
    write_pairs(tmp_path / "a.bin", [images[0], images[0], images[1], b"no image"], [False, True])
    report = check(tmp_path / "a.bin")
    assert report.findings.counts == {"pairs": 1, "image": 1}
    assert {finding.key for finding in report.findings.kept} == {0, 3}
    (tmp_path / "b.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert check(tmp_path / "b.bin").findings.counts == {"pairs": 1}


def test_many_images_are_decoded_in_processes(tmp_path: Path) -> None:
    made = write_synthetic_pack(tmp_path / "p", num_identities=30, images_per_identity=40, side=16)
    offset = offsets_of(made.folder)[777]
    change(made.folder / "train.rec", offset + 40, b"\xff" * 60)
    report = check_path(made.folder, workers=2)
    assert found(report) == {("image", 777, offset)}


def test_the_command_reports_and_exits_with_1(pack: Path) -> None:
    good = CliRunner().invoke(cli, ["data", "verify", str(pack), "--workers", "0"], standalone_mode=False)
    assert good.return_value is None
    assert "nothing is wrong" in good.output
    rec_change(5, 12, floats(9))(pack)
    bad = CliRunner().invoke(cli, ["data", "verify", str(pack), "--json", "--workers", "0"])
    assert bad.exit_code == 1
    facts = json.loads(bad.stdout)
    offset = offsets_of(pack)[5]
    assert facts["intact"] is False
    assert {"kind": "label", "key": 5, "offset": offset}.items() <= facts["findings"][0].items()
    text = CliRunner().invoke(cli, ["data", "verify", str(pack), "--workers", "0"])
    assert f"record 5 at byte {offset} has label 9" in text.output


def test_a_missing_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        check(tmp_path / "nothing")
