"""The real mxnet reads what `facerec data pack` makes of a folder of photographs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.main import cli
from facerec.data.decode import decode_image
from tests.photos import write_people

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def facerec(*arguments: str | Path) -> None:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_mxnet_reads_a_pack_of_photographs(mxnet: Any, tmp_path: Path) -> None:
    counts = {"Ada Lovelace": 3, "Blaise Pascal": 4, "Chen Jingrun": 2}
    people = write_people(tmp_path / "people", counts, side=48)
    facerec("data", "pack", people, tmp_path / "pack", "--size", "48")

    rec_path = tmp_path / "pack" / "train.rec"
    reader = mxnet.recordio.MXIndexedRecordIO(str(rec_path.with_suffix(".idx")), str(rec_path), "r")
    header, rest = mxnet.recordio.unpack(reader.read_idx(0))
    assert (header.flag, rest) == (2, b"")
    np.testing.assert_array_equal(header.label, [10.0, 13.0])

    photographs = [path for name in counts for path in sorted((people / name).iterdir())]
    for key, path in enumerate(photographs, start=1):
        header, image = mxnet.recordio.unpack(reader.read_idx(key))
        assert int(np.atleast_1d(header.label)[0]) == list(counts).index(path.parent.name)
        assert image == path.read_bytes()
        np.testing.assert_array_equal(mxnet.image.imdecode(image).asnumpy(), decode_image(path.read_bytes()))
    starts = np.cumsum([1, *counts.values()])
    for identity in range(3):
        header, rest = mxnet.recordio.unpack(reader.read_idx(10 + identity))
        assert (header.flag, rest) == (2, b"")
        np.testing.assert_array_equal(header.label, [starts[identity], starts[identity + 1]])
    assert (tmp_path / "pack" / "property").read_text().splitlines()[0] == "3,48,48"


def test_lfw_repacked_is_the_file_that_mxnet_wrote(mxnet: Any, shared_data: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(shared_data / "lfw", tmp_path / "lfw"))
    facerec("data", "unpack", source, tmp_path / "people")
    facerec("data", "pack", tmp_path / "people", tmp_path / "again")
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "again" / name).read_bytes() == (source / name).read_bytes()
    reader = mxnet.recordio.MXIndexedRecordIO(
        str(tmp_path / "again" / "train.idx"), str(tmp_path / "again" / "train.rec"), "r"
    )
    header, _ = mxnet.recordio.unpack(reader.read_idx(0))
    np.testing.assert_array_equal(header.label, [10_563.0, 10_563.0 + 4_859.0])
