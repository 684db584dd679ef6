"""The real mxnet and our reader see the same bytes, labels and pixels, in files of either's making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facerec.data.decode import decode_image
from facerec.data.image_record import build_image_record, parse_image_record
from facerec.data.record_writer import MAGIC_BYTES
from facerec.data.recordio import RecordReader, RecordWriter
from facerec.errors import RecordError
from tests.packs import draw, encode_png

# mxnet 1.9.1 uses names that numpy and scipy have since deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def by_mxnet(mxnet: Any, rec_path: Path) -> Any:
    return mxnet.recordio.MXIndexedRecordIO(str(rec_path.with_suffix(".idx")), str(rec_path), "r")


def rec_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rec"))


def test_every_payload_is_the_same(mxnet: Any, real_pack: Path) -> None:
    for rec_path in rec_files(real_pack):
        theirs = by_mxnet(mxnet, rec_path)
        with RecordReader(rec_path) as ours:
            keys = ours.keys.tolist()
            assert sorted(theirs.keys) == sorted(keys)
            assert all(theirs.read_idx(key) == ours.read(key) for key in keys)


def test_every_label_is_the_same(mxnet: Any, real_pack: Path) -> None:
    for rec_path in (path for path in rec_files(real_pack) if path.stem == "train"):
        with RecordReader(rec_path) as ours:
            for key in ours.keys.tolist():
                payload = ours.read(key)
                header, image = mxnet.recordio.unpack(payload)
                record = parse_image_record(payload)
                assert (record.flag, record.record_id, record.record_id2) == (header.flag, header.id, header.id2)
                np.testing.assert_array_equal(record.labels, np.atleast_1d(np.float32(header.label)))
                assert bytes(record.image) == image


def test_every_picture_decodes_to_the_same_pixels(mxnet: Any, real_pack: Path) -> None:
    pictures = 0
    for rec_path in (path for path in rec_files(real_pack) if path.stem == "train"):
        with RecordReader(rec_path) as ours:
            # Decoding by mxnet takes a third of a millisecond; every third picture of LFW is enough.
            step = 3 if len(ours) > 1000 else 1
            for key in ours.keys.tolist()[::step]:
                image = bytes(parse_image_record(ours.read(key)).image)
                if not image:
                    continue
                np.testing.assert_array_equal(decode_image(image), mxnet.image.imdecode(image).asnumpy())
                pictures += 1
    assert pictures >= 6


def test_mxnet_reads_what_the_writer_wrote(mxnet: Any, tmp_path: Path) -> None:
    magic = MAGIC_BYTES
    payloads = [
        b"",
        b"x",
        magic,
        magic * 3,
        b"abcd" + magic + b"efgh" + magic,
        b"abc" + magic,  # not at a multiple of four: no reason to split
        magic[:3],
        bytes(np.random.default_rng(0).integers(0, 256, 10_001, dtype=np.uint8)),
        build_image_record(encode_png(draw(1, 1)), label=3.0, record_id=7),
        build_image_record(encode_png(draw(1, 2)), label=[3.0, 1.0, 0.5], record_id=8),
    ]
    rec_path = tmp_path / "train.rec"
    with RecordWriter(rec_path, tmp_path / "train.idx") as writer:
        for key, payload in enumerate(payloads):
            writer.write(key * 3 + 1, payload)
    theirs = by_mxnet(mxnet, rec_path)
    assert [theirs.read_idx(key * 3 + 1) for key in range(len(payloads))] == payloads


def test_both_writers_make_the_same_file(mxnet: Any, tmp_path: Path) -> None:
    magic = MAGIC_BYTES
    payloads = [b"", b"abc", magic, b"abcd" + magic + magic + b"e", bytes(range(256)) * 9]
    theirs = mxnet.recordio.MXIndexedRecordIO(str(tmp_path / "theirs.idx"), str(tmp_path / "theirs.rec"), "w")
    with RecordWriter(tmp_path / "ours.rec", tmp_path / "ours.idx") as ours:
        for key, payload in enumerate(payloads):
            theirs.write_idx(key, payload)
            ours.write(key, payload)
    theirs.close()
    for suffix in (".rec", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()


def test_a_record_that_one_refuses_the_other_refuses_too(mxnet: Any, tmp_path: Path) -> None:
    rec_path = tmp_path / "train.rec"
    with RecordWriter(rec_path, tmp_path / "train.idx") as writer:
        for key in range(40):
            writer.write(key, bytes([key]) * 40)
    data = bytearray(rec_path.read_bytes())
    data[48] ^= 0xFF  # the magic of record 1
    rec_path.write_bytes(bytes(data))
    theirs = by_mxnet(mxnet, rec_path)
    with pytest.raises(mxnet.base.MXNetError):
        theirs.read_idx(1)
    with RecordReader(rec_path) as ours, pytest.raises(RecordError, match="record 1 at byte 48"):
        ours.read(1)
