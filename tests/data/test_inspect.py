"""``facerec data inspect``: what a pack and a pair set hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from facerec.cli.main import cli
from facerec.data.decode import decode_image
from facerec.data.histogram import count_buckets
from facerec.data.inspect import describe, inspect_path
from facerec.data.pack import FacePack
from facerec.errors import MissingPathError, PairSetError, RecordError
from tests.packs import write_pack, write_pair_set


def inspect_json(path: Path) -> dict[str, object]:
    result = CliRunner().invoke(cli, ["data", "inspect", str(path), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    facts: dict[str, object] = json.loads(result.stdout)
    return facts


def test_a_pack_is_described_by_folder_and_by_file(tmp_path: Path) -> None:
    folder = write_pack(tmp_path / "pack", identities=5, pictures=3)
    facts = inspect_json(folder)
    assert facts == inspect_json(folder / "train.rec")
    assert facts["records"] == 1 + 15 + 5
    assert facts["images"] == 15
    assert facts["identities"] == 5
    assert facts["images_per_identity"] == {"min": 3, "median": 3.0, "mean": 3.0, "max": 3}
    assert facts["histogram"] == [{"from": 3, "to": 4, "identities": 5}]
    assert facts["multipart_records"] == 0
    assert facts["layout"] == "header"
    assert facts["image_shape"] == [32, 32]
    assert facts["bytes"] == (folder / "train.rec").stat().st_size


def test_a_pair_set_is_described(tmp_path: Path) -> None:
    path = write_pair_set(tmp_path / "x.bin", pairs=20)
    facts = inspect_json(path)
    assert (facts["pairs"], facts["genuine"], facts["images"]) == (20, 10, 40)
    assert len(str(facts["sha256"])) == 64
    assert "pairs                20" in describe(facts)


def test_the_histogram_counts_every_identity_once() -> None:
    random = np.random.default_rng(0)
    per_identity = np.r_[random.integers(0, 200, size=500), 0]
    rows = count_buckets(per_identity)
    assert sum(row["identities"] for row in rows) == 501
    assert [row["from"] for row in rows] == [0, 1, 2, 3, 5, 9, 17, 33, 65, 129]
    for row in rows:
        assert row["identities"] == sum(row["from"] <= count <= row["to"] for count in per_identity)


def test_pictures_are_drawn_and_damaged_images_are_marked(tmp_path: Path) -> None:
    folder = write_pack(tmp_path / "pack", identities=3, pictures=5)
    content = bytearray((folder / "train.rec").read_bytes())
    place = int((folder / "train.idx").read_text().splitlines()[1].split("\t")[1])
    content[place + 40 : place + 60] = b"x" * 20
    (folder / "train.rec").write_bytes(content)
    facts = inspect_path(folder, pictures=tmp_path / "out")
    assert [Path(path).name for path in facts["pictures"]] == ["histogram.png", "contact_sheet.png"]
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.size == (5 * 116 + 4, 3 * 134 + 4)
        pixels = np.asarray(sheet)
    tops = [22 + 134 * row for row in range(3)]
    (damaged,) = [top for top in tops if (pixels[top + 8, 50] == 170).all()]
    second = np.asarray(decode_image(FacePack.open(folder).read_image(2).image)).mean(axis=(0, 1))
    shown = pixels[damaged : damaged + 112, 120:232].mean(axis=(0, 1))
    np.testing.assert_allclose(shown, second, atol=3)
    with Image.open(tmp_path / "out" / "histogram.png") as histogram:
        assert histogram.width >= 700
    pairs = write_pair_set(tmp_path / "x.bin", pairs=20)
    run = CliRunner().invoke(cli, ["data", "inspect", str(pairs), "--output", str(tmp_path / "bin")])
    assert run.exit_code == 0
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["contact_sheet.png"]


def test_packs_of_mxnet_are_described(shared_data: Path, tmp_path: Path) -> None:
    for name in ("small", "veclabel", "multipart"):
        shutil.copytree(shared_data / "mxnet" / name, tmp_path / name)
    small = inspect_json(tmp_path / "small")
    assert (small["records"], small["images"], small["identities"]) == (26, 20, 5)
    veclabel = inspect_json(tmp_path / "veclabel")
    assert (veclabel["layout"], veclabel["images"]) == ("flat", 20)
    assert len(veclabel["image_shape"]) == 2  # type: ignore[arg-type]
    assert inspect_json(tmp_path / "multipart" / "train.rec")["multipart_records"] == 3


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="does not exist"):
        inspect_path(tmp_path / "nowhere")
    folder = write_pack(tmp_path / "pack")
    content = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordError, match=r"train\.rec"):
        inspect_path(folder)
    (tmp_path / "bad.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(PairSetError, match=r"os\.system"):
        inspect_path(tmp_path / "bad.bin")
