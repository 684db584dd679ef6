"""Training packs: which records are images, how many identities there are, and what contradictions are refused."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from facerec.data.image_record import build_image_record
from facerec.data.pack import FacePack
from facerec.data.pack_layout import are_classes
from facerec.data.recordio import RecordWriter
from facerec.errors import DataError, MissingPathError, RecordError
from tests.packs import write_pack


def write_records(folder: Path, payloads: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with RecordWriter(folder / "train.rec") as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)
    return folder


def write_flat(folder: Path, labels: list[float]) -> Path:
    return write_records(folder, [build_image_record(b"image", label=label) for label in labels])


def header_pack(folder: Path, *, header: list[float], images: int, identities: int) -> Path:
    records = [build_image_record(b"", label=header)]
    records += [build_image_record(b"image", label=0.0)] * images
    records += [build_image_record(b"", label=[1.0, 2.0])] * identities
    return write_records(folder, records)


def test_a_pack_with_a_header_is_taken_apart(tmp_path: Path) -> None:
    folder = write_pack(tmp_path, identities=5, pictures=3)
    for path in (folder, folder / "train.rec", str(folder)):
        pack = FacePack.open(path)
        assert (pack.layout, pack.num_images, pack.num_classes) == ("header", 15, 5)
        assert (pack.num_classes_source, pack.image_hw) == ("property", (32, 32))
        assert pack.image_keys.tolist() == list(range(1, 16))
        assert pack.labels().tolist() == [identity for identity in range(5) for _ in range(3)]
        assert pack.labels().dtype == np.int64
        assert pack.multipart_records() == 0


def test_packs_of_mxnet_are_taken_apart(shared_data: Path, tmp_path: Path) -> None:
    for name in ("small", "veclabel"):
        shutil.copytree(shared_data / "mxnet" / name, tmp_path / name)
    small, flat = FacePack.open(tmp_path / "small"), FacePack.open(tmp_path / "veclabel")
    assert (small.layout, small.num_images, small.num_classes) == ("header", 20, 5)
    assert np.bincount(small.labels()).tolist() == [5, 3, 1, 7, 4]
    assert (flat.layout, flat.num_images, flat.num_classes_source) == ("flat", 20, "labels")


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_without_property_identities_are_counted(tmp_path: Path, io: str) -> None:
    folder = write_pack(tmp_path / "header", identities=4, pictures=2)
    (folder / "property").unlink()
    pack = FacePack.open(folder, io=io)  # type: ignore[arg-type]
    assert (pack.num_classes, pack.num_classes_source, pack.image_hw) == (4, "identity records", None)
    flat = FacePack.open(write_flat(tmp_path / "flat", [0, 6, 2]), io=io)  # type: ignore[arg-type]
    assert (flat.layout, flat.num_classes, flat.num_classes_source) == ("flat", 7, "labels")
    assert flat.labels().tolist() == [0, 6, 2]


def test_vector_labels_give_their_first_value(tmp_path: Path) -> None:
    records = [build_image_record(b"image", label=[label, 0.5, 9.0]) for label in (2.0, 0.0, 1.0)]
    pack = FacePack.open(write_records(tmp_path, records))
    assert (pack.layout, pack.labels().tolist(), pack.num_classes) == ("flat", [2, 0, 1], 3)


@pytest.mark.parametrize("text", ["5,112,96", "5,112,96\n", " 5 , 112 , 96 \r\n", "5,112,96\n15\n", "5,112,96\r\n15"])
def test_property_may_have_one_or_two_lines(tmp_path: Path, text: str) -> None:
    folder = write_pack(tmp_path, identities=5, pictures=3)
    (folder / "property").write_bytes(text.encode())
    pack = FacePack.open(folder)
    assert (pack.num_classes, pack.image_hw) == (5, (112, 96))


@pytest.mark.parametrize(
    "text",
    ["", "5", "5,112", "5,112,112,3", "five,112,112", "-5,112,112", "5,0,112", "0,112,112", "5,112,112\nx", "5;1;1"],
)
def test_a_damaged_property_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_pack(tmp_path, identities=5, pictures=3)
    (folder / "property").write_text(text)
    with pytest.raises(DataError, match=r"property is damaged .* must be classes,height,width"):
        FacePack.open(folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("6,32,32\n", "says 6 identities, but train.rec has 5"),
        ("5,32,32\n14\n", "says 14 images, but train.rec has 15"),
    ],
)
def test_a_property_of_another_pack_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    folder = write_pack(tmp_path, identities=5, pictures=3)
    (folder / "property").write_text(text)
    with pytest.raises(DataError, match=problem):
        FacePack.open(folder)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ([8, 10], "announces 2 identities, the index has 1"),
        ([8, 9], "up to key 7, but they end elsewhere"),
        ([6, 9], "up to key 5, but they end elsewhere"),
        ([7, 10], "announces 3 identities, the index has 2"),
        ([100, 102], "images with the keys 1 to 99"),
        ([float("nan"), 5], "header record announces"),
        ([7, float("nan")], "header record announces"),
        ([float("inf"), float("inf")], "header record announces"),
        ([2.0**25, 2.0**25], "header record announces"),
        ([-1, 5], "header record announces"),
        ([6.5, 8], "header record announces"),
    ],
)
def test_a_header_with_wrong_counts_is_refused(tmp_path: Path, header: list[float], problem: str) -> None:
    header_pack(tmp_path, header=header, images=6, identities=2)
    with pytest.raises(DataError, match=problem):
        FacePack.open(tmp_path)


def test_a_pack_without_images_is_refused(tmp_path: Path) -> None:
    header_pack(tmp_path, header=[1, 1], images=0, identities=0)
    with pytest.raises(DataError, match="holds no images"):
        FacePack.open(tmp_path)


@pytest.mark.parametrize("label", [-1.0, 0.5, 3.0, float("nan"), float("inf")])
@pytest.mark.parametrize("as_vector", [False, True])
def test_labels_that_are_no_class_are_refused_with_their_place(tmp_path: Path, label: float, as_vector: bool) -> None:
    labels = [0.0, label, 2.0]
    records = [build_image_record(b"image", label=[one] if as_vector else one) for one in labels]
    (write_records(tmp_path, records) / "property").write_text("3,32,32\n")
    pack = FacePack.open(tmp_path)
    with pytest.raises(DataError, match=r"record 1 at byte \d+ has label .* 3 identities \(0 to 2, from property\)"):
        pack.labels()
    with pytest.raises(DataError, match="has label"):
        pack.label_of(pack.read_image(1), key=1)


def damage(folder: Path, *keys: int) -> None:
    """Break the first bytes of records."""
    offsets = dict(map(int, line.split("\t")) for line in (folder / "train.idx").read_text().splitlines())
    with open(folder / "train.rec", "r+b") as stream:
        for key in keys:
            stream.seek(offsets[key])
            stream.write(b"\0\0\0\0")


@pytest.mark.parametrize("images", [1, 2, 6, 13])
@pytest.mark.parametrize("identities", [0, 1, 5])
def test_where_a_header_is_rounded_the_index_tells_how_many_images_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, identities: int
) -> None:
    # Beyond 2^24 a float32 holds no odd number; here it ends at 2, so that every header is beyond it.
    monkeypatch.setattr("facerec.data.pack_layout.EXACT_FLOAT", 2)
    header_pack(tmp_path, header=[1000.0, 2000.0], images=images, identities=identities)
    pack = FacePack.open(tmp_path)
    assert (pack.layout, pack.num_images) == ("header", images)
    assert pack.image_keys.tolist() == list(range(1, images + 1))


def test_damaged_records_do_not_move_the_end_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facerec.data.pack_layout.EXACT_FLOAT", 2)
    header_pack(tmp_path, header=[1000.0, 2000.0], images=12, identities=4)
    damage(tmp_path, 6, 7, 8, 9)
    assert FacePack.open(tmp_path).num_images == 12


def test_a_damaged_first_image_costs_itself_alone_and_a_damaged_header_the_pack(tmp_path: Path) -> None:
    flat = write_flat(tmp_path / "flat", [0, 1, 2])
    damage(flat, 0)
    pack = FacePack.open(flat)
    assert (pack.layout, pack.num_images, pack.num_classes) == ("flat", 3, 3)
    with pytest.raises(RecordError, match="record 0 at byte 0"):
        pack.read_image(0)
    header = write_pack(tmp_path / "header", identities=2, pictures=2)
    damage(header, 0)
    with pytest.raises(RecordError, match="record 0 at byte 0"):
        FacePack.open(header)


def test_a_damaged_record_at_a_border_is_reported_when_it_is_read(tmp_path: Path) -> None:
    folder = write_pack(tmp_path, identities=3, pictures=2)
    damage(folder, 6, 7)
    pack = FacePack.open(folder)
    assert (pack.num_images, pack.num_classes) == (6, 3)
    with pytest.raises(RecordError, match="record 6 at byte"):
        pack.read_image(6)


def test_without_property_and_identities_damaged_labels_are_left_out_of_the_count(tmp_path: Path) -> None:
    records = [build_image_record(b"image", label=[label, 0.0]) for label in (0.0, 4.0, 1.0, 2.0, 9.0)]
    folder = write_records(tmp_path, records)
    damage(folder, 4)
    assert FacePack.open(folder).num_classes == 5


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([[1, 3], [3, 5]], "image 5 is in no identity record"),
        ([[1, 4], [3, 7]], "identity record 8 does not name a range of images of its own"),
        ([[1, 4], [4, 9]], "identity record 8 does not name a range"),
        ([[4, 1], [4, 7]], "identity record 7 does not name a range"),
        ([[float("nan"), 4], [4, 7]], "identity record 7 does not name a range"),
        ([[1], [4, 7]], "identity record 7 does not name a range"),
    ],
)
def test_identity_records_that_do_not_share_the_images_out_are_named(
    tmp_path: Path, spans: list[list[float]], problem: str
) -> None:
    records = [build_image_record(b"", label=[7, 9])]
    records += [build_image_record(b"image", label=0.0)] * 6
    records += [build_image_record(b"", label=span) for span in spans]
    pack = FacePack.open(write_records(tmp_path, records))
    with pytest.raises(RecordError, match=problem):
        pack.groups()


def test_a_property_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pack(tmp_path, identities=2, pictures=2)

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("facerec.data.pack_layout.open", refuse, raising=False)
    with pytest.raises(MissingPathError, match=r"property cannot be read \(Permission denied\); check its permissions"):
        FacePack.open(folder)


def test_a_record_without_image_is_named(tmp_path: Path) -> None:
    pack = FacePack.open(write_pack(tmp_path, identities=2, pictures=2))
    with pytest.raises(RecordError, match=r"record 5 at byte \d+ holds no image") as caught:
        pack.read_image(5)
    assert caught.value.key == 5


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    folder = write_pack(tmp_path / "one", identities=3, pictures=2)
    fingerprint = FacePack.open(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert FacePack.open(tmp_path / "copy").fingerprint == fingerprint
    assert FacePack.open(write_pack(tmp_path / "two", identities=3, pictures=3)).fingerprint != fingerprint
    (folder / "property").write_text("3,64,64\n")
    changed = FacePack.open(folder).fingerprint
    assert changed != fingerprint
    (folder / "property").unlink()
    assert FacePack.open(folder).fingerprint not in (changed, fingerprint)


def test_a_pickled_pack_is_the_same_pack(tmp_path: Path) -> None:
    pack = FacePack.open(write_pack(tmp_path, identities=3, pictures=2))
    copy: FacePack = pickle.loads(pickle.dumps(pack))
    assert copy.image_keys.tolist() == pack.image_keys.tolist()
    assert copy.fingerprint == pack.fingerprint
    assert copy.read_image(4).image == pack.read_image(4).image


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="does not exist"):
        FacePack.open(tmp_path / "nowhere")
    with pytest.raises(MissingPathError, match=r"has no train\.rec"):
        FacePack.open(tmp_path)
    folder = write_pack(tmp_path / "pack", identities=2, pictures=2)
    (folder / "train.idx").unlink()
    with pytest.raises(MissingPathError, match=r"train\.idx does not exist"):
        FacePack.open(folder)


def test_a_class_is_a_whole_number_below_the_number_of_classes():
    labels = np.array([0.0, 4.0, 5.0, -1.0, 1.5, np.nan, np.inf, -np.inf], dtype=np.float32)
    assert are_classes(labels, num_classes=5).tolist() == [True, True, *[False] * 6]
    assert are_classes(labels, num_classes=None).tolist() == [True, True, True, *[False] * 5]
