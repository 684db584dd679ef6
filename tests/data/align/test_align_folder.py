"""Aligning a folder: what is written, what is listed, and with which reason."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from facerec.cli.main import cli
from facerec.data.align import detector
from facerec.data.align.align_folder import AlignOptions, align_folder
from facerec.data.align.geometry import template_for
from facerec.data.align.landmarks import read_landmarks
from facerec.data.align.quality import QualityGate, sharpness
from facerec.data.decode import decode_image, read_image_file
from facerec.data.pack import FacePack
from facerec.errors import DataError, MissingPathError, UsageError
from tests.photos import photograph

T = template_for((112, 112))
has_detector = pytest.mark.skipif(
    importlib.util.find_spec("facenet_pytorch") is None, reason="no face detector is installed (facenet-pytorch)"
)


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(cli, ["data", "align", *map(str, arguments), "--workers", "0", "--json"])
    assert result.exit_code == 0, repr(result.exception)
    return json.loads(result.stdout)


def report(folder: Path) -> dict[str, list[str]]:
    rows = [line.split("\t") for line in (folder / "report.tsv").read_text().splitlines()]
    assert rows[0] == ["path", "result", "faces", "face_pixels", "sharpness", "residual", "reason"]
    return {row[0]: row[1:] for row in rows[1:]}


def photo_with_face(person: int, *, zoom: int = 2) -> np.ndarray:
    """A drawing of 112 pixels, enlarged, at (60, 30) of a photograph."""
    canvas = np.full((480, 640, 3), 90, dtype=np.uint8)
    face = photograph(person, 1, side=112).repeat(zoom, axis=0).repeat(zoom, axis=1)
    canvas[30 : 30 + 112 * zoom, 60 : 60 + 112 * zoom] = face
    return canvas


def points_on_photo(zoom: float = 2.0) -> np.ndarray:
    return (T + 0.5) * zoom - 0.5 + [60, 30]


def line_of(name: str, points: np.ndarray) -> str:
    return "\t".join([name, *(f"{value:.4f}" for value in points.reshape(-1))])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    for name in ("Ann", "Bob C"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(photo_with_face(1)).save(folder / "Ann" / "1.png")
    Image.fromarray(photo_with_face(1)).save(folder / "Ann" / "two faces.jpg", quality=98)
    Image.fromarray(photo_with_face(1)).save(folder / "Ann" / "unlisted.jpg")
    blurred = ndimage.gaussian_filter(photo_with_face(2).astype(float), (9, 9, 0)).astype(np.uint8)
    Image.fromarray(blurred).save(folder / "Bob C" / "blurred.png")
    Image.fromarray(photo_with_face(2)).save(folder / "Bob C" / "far away.png")
    Image.fromarray(photo_with_face(2)).save(folder / "Bob C" / "mirrored.png")
    (folder / "Bob C" / "broken.jpg").write_bytes(b"no image")
    (folder / "Bob C" / "degenerate.png").write_bytes((folder / "Bob C" / "far away.png").read_bytes())
    return folder


@pytest.fixture
def table(people: Path, tmp_path: Path) -> Path:
    points = points_on_photo()
    mirrored = points[[1, 0, 2, 4, 3]]
    lines = [
        line_of("Ann/1.png", points),
        line_of("Ann/two faces.jpg", points),
        line_of("Ann/two faces.jpg", points * 0.2),
        line_of("Bob C/blurred.png", points),
        line_of("Bob C/far away.png", points * 0.1),
        line_of("Bob C/mirrored.png", mirrored),
        line_of("Bob C/broken.jpg", points),
        line_of("Bob C/degenerate.png", points * 0),
    ]
    (tmp_path / "points.tsv").write_text("\n".join(["path\t" + "\t".join("abcdefghij"), *lines]) + "\n")
    return tmp_path / "points.tsv"


def test_every_photograph_is_written_or_listed_with_its_reason(people: Path, table: Path, tmp_path: Path) -> None:
    facts = run(people, tmp_path / "out", "--landmarks", table)
    assert (facts["photos"], facts["aligned"]) == (8, 1)
    assert facts["rejected"] == {
        "several faces": 1, "no face": 1, "too blurred": 1, "too small": 1, "no frontal face": 1, "unusable": 2,
    }  # fmt: skip
    rows = report(tmp_path / "out")
    assert len(rows) == 8
    assert rows["Ann/1.png"][:3] == ["aligned", "1", "224.0"]
    assert rows["Ann/two faces.jpg"][0] == "rejected"
    assert rows["Ann/two faces.jpg"][-1] == "several faces: 2"
    assert "in one place" in rows["Bob C/degenerate.png"][-1]
    written = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.jpg"))
    assert written == [Path("Ann/1.png.jpg")]


def test_the_aligned_face_is_the_drawing(people: Path, table: Path, tmp_path: Path) -> None:
    run(people, tmp_path / "out", "--landmarks", table)
    face = read_image_file(tmp_path / "out" / "Ann" / "1.png.jpg").astype(int)
    assert face.shape == (112, 112, 3)
    assert np.abs(face - photograph(1, 1, side=112)).mean() < 4


def test_faces_whose_new_names_would_be_one_get_two_files(people: Path, tmp_path: Path) -> None:
    Image.fromarray(photo_with_face(2)).save(people / "Ann" / "1.png.jpg", quality=98)
    lines = [line_of(f"Ann/{name}", points_on_photo()) for name in ("1.png", "1.png.jpg")]
    (tmp_path / "two.tsv").write_text("\n".join(lines) + "\n")
    assert run(people, tmp_path / "out", "--landmarks", tmp_path / "two.tsv")["aligned"] == 2
    assert sorted(path.name for path in (tmp_path / "out" / "Ann").iterdir()) == ["1.png.jpg", "1.png.jpg.jpg"]


def test_the_largest_of_several_faces_can_be_taken(people: Path, table: Path, tmp_path: Path) -> None:
    run(people, tmp_path / "out", "--landmarks", table, "--several", "largest", "--size", "112x96")
    face = read_image_file(tmp_path / "out" / "Ann" / "two faces.jpg").astype(int)
    assert face.shape == (112, 96, 3)
    assert np.abs(face - photograph(1, 1, side=112)[:, 8:104]).mean() < 5


def test_limits_of_zero_are_none(people: Path, table: Path, tmp_path: Path) -> None:
    limits = ["--min-face", 0, "--min-sharpness", 0, "--max-residual", 0]
    facts = run(people, tmp_path / "out", "--landmarks", table, *limits)
    assert facts["aligned"] == 4
    assert set(facts["rejected"]) == {"several faces", "no face", "unusable"}


def test_workers_change_nothing(people: Path, table: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 0), ("two", 2)):
        align_folder(people, tmp_path / name, options=AlignOptions(), landmarks_path=table, workers=workers)
    assert (tmp_path / "one" / "report.tsv").read_text() == (tmp_path / "two" / "report.tsv").read_text()
    face = Path("Ann/1.png.jpg")
    assert (tmp_path / "one" / face).read_bytes() == (tmp_path / "two" / face).read_bytes()


def test_json_and_tables_say_the_same(people: Path, table: Path, tmp_path: Path) -> None:
    points = read_landmarks(table)
    content = {name: [face.tolist() for face in faces] for name, faces in points.items()}
    content["Ann/1.png"] = content["Ann/1.png"][0]
    (tmp_path / "points.json").write_text(json.dumps(content))
    again = read_landmarks(tmp_path / "points.json")
    assert again.keys() == points.keys()
    for name, faces in points.items():
        np.testing.assert_array_equal(np.array(again[name]), np.array(faces))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "a/b.jpg\t1\t2\n", "line 1: 'a/b.jpg"),
        ("x.tsv", "a\t" + "\t".join(["1"] * 9 + ["nan"]), "line 1"),
        ("x.tsv", "", "name no picture"),
        ("x.json", "[1]", "must be an object"),
        ("x.json", "{", "no JSON"),
        ("x.json", '{"a": [[1, 2], [3, 4]]}', "'a' does not have five points"),
        ("x.json", '{"a": 3}', "'a' does not have"),
        ("x.json", '{"a": [[[1, 2], [1, 2], [1, 2], [1, 2], [1, "x"]]]}', "'a' does not have"),
    ],
)
def test_damaged_landmarks_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_landmarks(tmp_path / name)
    with pytest.raises(MissingPathError):
        read_landmarks(tmp_path / "nowhere.tsv")


def test_nothing_is_left_where_no_face_is_left(people: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no face of .* is left"):
        align_folder(
            people,
            tmp_path / "out",
            options=AlignOptions(gate=QualityGate(min_face_pixels=5000)),
            landmarks_path=table,
            workers=0,
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="exists already"):
        align_folder(people, tmp_path, options=AlignOptions(), landmarks_path=table, workers=0)
    with pytest.raises(UsageError, match="no template"):
        align_folder(people, tmp_path / "out", options=AlignOptions(image_hw=(96, 96)), workers=0)
    with pytest.raises(UsageError, match="from 0"):
        QualityGate(min_sharpness=-1)


def test_a_missing_detector_is_said_with_the_command_that_installs_it(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match=r"pip install --no-deps facenet-pytorch==2\.6\.0"):
        align_folder(people, tmp_path / "out", options=AlignOptions(), workers=0)


def test_blur_lowers_the_sharpness() -> None:
    face = photograph(3, 1, side=112)
    blurred = ndimage.gaussian_filter(face.astype(float), (1, 1, 0)).astype(np.uint8)
    assert sharpness(face) > 4 * sharpness(blurred)


@has_detector
@pytest.mark.slow
def test_the_detector_finds_faces_where_they_are(shared_data: Path, tmp_path: Path) -> None:
    for name in ("train.rec", "train.idx", "property"):
        (tmp_path / name).write_bytes((shared_data / "lfw" / name).read_bytes())
    pack = FacePack.open(tmp_path)
    (tmp_path / "people" / "x").mkdir(parents=True)
    keys = pack.image_keys[10:2000:250].tolist()
    originals = {f"{key}.png": decode_image(pack.read_image(key).image) for key in keys}
    for name, pixels in originals.items():
        canvas = Image.new("RGB", (500, 400), (90, 100, 110))
        enlarged = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
        canvas.paste(enlarged.rotate(12, Image.Resampling.BICUBIC, fillcolor=(90, 100, 110)), (130, 90))
        canvas.save(tmp_path / "people" / "x" / name)
    Image.new("RGB", (300, 300), (90, 100, 110)).save(tmp_path / "people" / "x" / "nobody.png")
    facts = run(tmp_path / "people", tmp_path / "out")
    assert facts["aligned"] >= len(originals) - 1
    assert report(tmp_path / "out")["x/nobody.png"][-1] == "no face: none was found"
    differences = []
    for path in (tmp_path / "out" / "x").iterdir():
        face = read_image_file(path).astype(float)[20:92, 20:92]
        original = originals[path.name.removesuffix(".jpg")].astype(float)[20:92, 20:92]
        differences.append(np.corrcoef(face.ravel(), original.ravel())[0, 1])
    # Detected landmarks differ by a pixel or two from those that aligned the originals.
    assert np.median(differences) > 0.85
